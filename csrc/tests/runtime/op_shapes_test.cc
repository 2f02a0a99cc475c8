// Shape rules of the ops: symbols that stay, dimensions that become "?", and concrete shapes as torch gives them.
#include <gtest/gtest.h>

#include "graph/shapes.h"
#include "ops/op.h"
#include "tests/runtime/model_builder.h"

namespace pqi::test {
namespace {

struct ShapeRow {
  const char* name;
  std::string op, input_shape, attrs;
  std::string stored;           // the output's shape in the file
  ConcreteShape input, output;  // shapes of one run; an empty output stands for the error kInvalidArgument
  ModelBuilder::Constants (*constants)(ModelBuilder* b) = nullptr;
};
void PrintTo(const ShapeRow& row, std::ostream* out) { *out << row.name; }

std::string Pool(const std::string& kernel, const std::string& stride, const std::string& padding, const std::string& dilation,
                 int ceil_mode) {
  return R"("kernel":)" + kernel + R"(,"stride":)" + stride + R"(,"padding":)" + padding + R"(,"dilation":)" + dilation +
         R"(,"ceil_mode":)" + std::to_string(ceil_mode);
}

std::string Avg(const std::string& kernel, const std::string& stride, const std::string& padding, int ceil_mode, int include_pad) {
  return R"("kernel":)" + kernel + R"(,"stride":)" + stride + R"(,"padding":)" + padding + R"(,"ceil_mode":)" + std::to_string(ceil_mode) +
         R"(,"count_include_pad":)" + std::to_string(include_pad);
}

std::string ConvAttrs(const std::string& stride, const std::string& padding, const std::string& dilation) {
  return R"("stride":)" + stride + R"(,"padding":)" + padding + R"(,"dilation":)" + dilation + R"(,"groups":1,"step":1,)" + kNoActivation;
}

class ShapeRule : public testing::TestWithParam<ShapeRow> {};

TEST_P(ShapeRule, GivesTheStoredAndTheConcreteShape) {
  const ShapeRow& row = GetParam();
  ModelBuilder b;
  const int x = row.op == "embedding" ? b.AddIndices("x", row.input_shape) : b.AddInput("x", row.input_shape);
  const ModelBuilder::Constants constants = row.constants != nullptr ? row.constants(&b) : ModelBuilder::Constants();
  b.AddOutput("y", b.AddNode(row.op, {x}, -1, constants, row.attrs));
  const auto model = b.Build();
  ASSERT_TRUE(model.ok()) << model.status().message();
  const Graph& graph = model.value()->graph();
  EXPECT_EQ(ShapeText(graph, graph.values[1].shape), row.stored);
  const std::vector<ConcreteShape> inputs{row.input};
  const auto shapes = model.value()->Shapes(inputs);
  if (row.output.empty()) {
    ASSERT_FALSE(shapes.ok());
    EXPECT_EQ(shapes.status().code(), Code::kInvalidArgument);
    EXPECT_NE(shapes.status().message().find("n0"), std::string::npos) << shapes.status().message();
  } else {
    ASSERT_TRUE(shapes.ok()) << shapes.status().message();
    EXPECT_EQ(shapes.value()[1], row.output);
  }
}

ModelBuilder::Constants ConvWeight(ModelBuilder* b) { return {{"weight", b->AddFloats({2, 3, 3, 4}, std::vector<float>(72, 1))}}; }
ModelBuilder::Constants LookupTable(ModelBuilder* b) { return {{"weight", b->AddFloats({3, 6}, std::vector<float>(18, 1))}}; }
ModelBuilder::Constants DynamicWeight(ModelBuilder* b) {
  return {{"weight", b->AddCodes({3, 4}, 8, "none", std::vector<int8_t>(12, 1))}, {"scale", b->AddFloats({3}, {1, 1, 1})}};
}

const std::string kDynamic =
    std::string(R"("mapping":"symmetric","granularity":"row","qmin":0,"qmax":255,"eps":872415232,"step":1,)") + kNoActivation;
const std::string kImage = R"("N","H","W",4)";

const ShapeRow kShapes[] = {
    {"conv_same_keeps_symbols",
     "conv2d",
     kImage,
     ConvAttrs("[1,1]", "[1,1,1,1]", "[1,1]"),
     "[N, H, W, 2]",
     {2, 7, 5, 4},
     {2, 7, 5, 2},
     ConvWeight},
    {"conv_same_uneven_padding",
     "conv2d",
     kImage,
     ConvAttrs("[1,1]", "[2,0,0,2]", "[1,1]"),
     "[N, H, W, 2]",
     {2, 7, 5, 4},
     {2, 7, 5, 2},
     ConvWeight},
    {"conv_same_dilated",
     "conv2d",
     kImage,
     ConvAttrs("[1,1]", "[2,3,2,3]", "[2,3]"),
     "[N, H, W, 2]",
     {1, 1, 1, 4},
     {1, 1, 1, 2},
     ConvWeight},
    {"conv_stride", "conv2d", kImage, ConvAttrs("[2,1]", "[1,1,1,1]", "[1,1]"), "[N, ?, W, 2]", {2, 7, 5, 4}, {2, 4, 5, 2}, ConvWeight},
    {"conv_valid", "conv2d", kImage, ConvAttrs("[1,1]", "[0,0,0,0]", "[1,1]"), "[N, ?, ?, 2]", {0, 3, 5, 4}, {0, 1, 3, 2}, ConvWeight},
    {"conv_image_too_small", "conv2d", kImage, ConvAttrs("[1,1]", "[0,0,0,0]", "[1,1]"), "[N, ?, ?, 2]", {1, 2, 5, 4}, {}, ConvWeight},
    {"conv_empty_image", "conv2d", kImage, ConvAttrs("[1,1]", "[1,1,1,1]", "[1,1]"), "[N, H, W, 2]", {1, 0, 5, 4}, {}, ConvWeight},
    {"max_pool_floor", "max_pool2d", kImage, Pool("[3,3]", "[2,2]", "[1,1,1,1]", "[1,1]", 0), "[N, ?, ?, 4]", {1, 6, 7, 4}, {1, 3, 4, 4}},
    {"max_pool_ceil", "max_pool2d", kImage, Pool("[3,3]", "[2,2]", "[0,0,0,0]", "[1,1]", 1), "[N, ?, ?, 4]", {1, 6, 7, 4}, {1, 3, 3, 4}},
    // torch drops the last window of a ceil-mode pool if it would start in the padding behind the image.
    {"max_pool_ceil_drops_a_window_in_the_padding",
     "max_pool2d",
     kImage,
     Pool("[2,2]", "[3,3]", "[0,1,0,1]", "[1,1]", 1),
     "[N, ?, ?, 4]",
     {1, 6, 5, 4},
     {1, 2, 2, 4}},
    {"max_pool_dilated", "max_pool2d", kImage, Pool("[2,3]", "[1,1]", "[0,2,0,2]", "[2,2]", 0), "[N, ?, W, 4]", {1, 6, 5, 4}, {1, 4, 5, 4}},
    {"max_pool_window_between_pixels",
     "max_pool2d",
     kImage,
     Pool("[2,1]", "[1,1]", "[3,0,1,0]", "[3,1]", 0),
     "[N, ?, W, 4]",
     {1, 2, 5, 4},
     {}},
    {"avg_pool_ceil", "avg_pool2d", kImage, Avg("[2,2]", "[2,2]", "[0,0,0,0]", 1, 1), "[N, ?, ?, 4]", {3, 5, 4, 4}, {3, 3, 2, 4}},
    {"adaptive", "adaptive_avg_pool2d", kImage, R"("output":[3,2])", "[N, 3, 2, 4]", {2, 7, 5, 4}, {2, 3, 2, 4}},
    {"adaptive_of_a_smaller_image", "adaptive_avg_pool2d", kImage, R"("output":[3,2])", "[N, 3, 2, 4]", {2, 1, 1, 4}, {2, 3, 2, 4}},
    {"mean", "mean", kImage, R"("keepdim":0)", "[N, 4]", {0, 7, 5, 4}, {0, 4}},
    {"mean_keepdim", "mean", kImage, R"("keepdim":1)", "[N, 1, 1, 4]", {2, 7, 5, 4}, {2, 1, 1, 4}},
    {"mean_of_nothing", "mean", kImage, R"("keepdim":1)", "[N, 1, 1, 4]", {2, 7, 0, 4}, {}},
    {"transpose", "transpose", kImage, R"("perm":[0,3,1,2])", "[N, 4, H, W]", {2, 7, 5, 4}, {2, 4, 7, 5}},
    {"flatten", "reshape", R"("N",2,3,4)", R"("shape":["N",24])", "[N, 24]", {5, 2, 3, 4}, {5, 24}},
    {"flatten_unknown", "reshape", kImage, R"("shape":["N","?"])", "[N, ?]", {2, 7, 5, 4}, {2, 140}},
    {"flatten_an_empty_batch", "reshape", kImage, R"("shape":["N","?"])", "[N, ?]", {0, 7, 5, 4}, {0, 140}},
    {"reshape_that_fits_no_image", "reshape", kImage, R"("shape":["N",100,"?"])", "[N, 100, ?]", {2, 7, 5, 4}, {}},
    {"reshape_that_fits_some_images", "reshape", kImage, R"("shape":["N",140])", "[N, 140]", {2, 7, 5, 4}, {2, 140}},
    {"reshape_that_fits_other_images", "reshape", kImage, R"("shape":["N",140])", "[N, 140]", {2, 7, 6, 4}, {}},
    {"reshape_moves_a_symbol", "reshape", R"(1,"N",4)", R"("shape":["?",4])", "[N, 4]", {1, 9, 4}, {9, 4}},
    {"linear_dynamic", "linear_dynamic", kImage, kDynamic, "[N, H, W, 3]", {2, 7, 5, 4}, {2, 7, 5, 3}, DynamicWeight},
    {"linear_dynamic_of_no_rows", "linear_dynamic", R"("N",4)", kDynamic, "[N, 3]", {0, 4}, {0, 3}, DynamicWeight},
    {"linear_dynamic_of_a_vector", "linear_dynamic", "4", kDynamic, "[3]", {4}, {3}, DynamicWeight},
    {"embedding", "embedding", R"("N","H",7)", R"("step":1)", "[N, H, 7, 6]", {2, 0, 7}, {2, 0, 7, 6}, LookupTable},
    {"embedding_of_one_index", "embedding", "", R"("step":1)", "[6]", {}, {6}, LookupTable},
    {"unary", "unary", kImage, R"("function":"silu","alpha":0)", "[N, H, W, 4]", {2, 0, 5, 4}, {2, 0, 5, 4}},
    {"reduce", "reduce", kImage, R"("function":"amax","axes":[1,3],"keepdim":0)", "[N, W]", {2, 7, 5, 4}, {2, 5}},
    {"reduce_keepdim", "reduce", kImage, R"("function":"sum","axes":[0,2],"keepdim":1)", "[1, H, 1, 4]", {2, 7, 5, 4}, {1, 7, 1, 4}},
    {"reduce_of_nothing", "reduce", kImage, R"("function":"mean","axes":[1],"keepdim":0)", "[N, W, 4]", {2, 0, 5, 4}, {}},
    {"cumsum", "cumsum", kImage, R"("axis":1)", "[N, H, W, 4]", {2, 0, 5, 4}, {2, 0, 5, 4}},
    {"softmax", "softmax", kImage, R"("causal":1,"log":0)", "[N, H, W, 4]", {2, 3, 0, 4}, {2, 3, 0, 4}},
    {"layer_norm", "layer_norm", kImage, R"("eps":0,"center":1)", "[N, H, W, 4]", {2, 3, 5, 4}, {2, 3, 5, 4}},
    {"group_norm", "group_norm", kImage, R"("eps":0,"groups":4)", "[N, H, W, 4]", {2, 3, 0, 4}, {2, 3, 0, 4}},
    {"group_norm_of_symbolic_channels", "group_norm", R"("N",2,2,"W")", R"("eps":0,"groups":4)", "[N, 2, 2, W]", {1, 2, 2, 6}, {}},
    {"clamp", "clamp", kImage, R"("lo":0,"hi":0)", "[N, H, W, 4]", {2, 0, 5, 4}, {2, 0, 5, 4}},
    {"concat", "concat", kImage, R"("axis":1)", "[N, ?, W, 4]", {2, 7, 5, 4}, {2, 7, 5, 4}},
    {"slice_keeps_other_symbols", "slice", kImage, R"("axis":1,"start":1,"end":6,"step":2)", "[N, ?, W, 4]", {2, 4, 5, 4}, {2, 2, 5, 4}},
    {"slice_of_all_keeps_the_symbol",
     "slice",
     kImage,
     R"("axis":2,"start":0,"end":2147483647,"step":1)",
     "[N, H, W, 4]",
     {2, 4, 5, 4},
     {2, 4, 5, 4}},
    {"slice_behind_the_end_of_a_symbol",
     "slice",
     kImage,
     R"("axis":1,"start":6,"end":9,"step":1)",
     "[N, ?, W, 4]",
     {2, 4, 5, 4},
     {2, 0, 5, 4}},
    {"slice_of_channels", "slice", kImage, R"("axis":3,"start":1,"end":9,"step":2)", "[N, H, W, 2]", {2, 4, 5, 4}, {2, 4, 5, 2}},
    {"pad",
     "pad",
     kImage,
     R"("mode":"constant","before":[0,1,0,2],"after":[0,2,0,0],"value":0)",
     "[N, ?, W, 6]",
     {2, 0, 5, 4},
     {2, 3, 5, 6}},
    {"pad_that_reflects_a_small_image",
     "pad",
     kImage,
     R"("mode":"reflect","before":[0,3,0,0],"after":[0,0,0,0],"value":0)",
     "[N, ?, W, 4]",
     {2, 3, 5, 4},
     {}},
    {"pad_that_replicates_nothing",
     "pad",
     kImage,
     R"("mode":"replicate","before":[0,1,0,0],"after":[0,0,0,0],"value":0)",
     "[N, ?, W, 4]",
     {2, 0, 5, 4},
     {}},
    {"expand", "expand", R"(1,"N",1)", R"("shape":[3,0,7])", "[3, N, 7]", {1, 0, 1}, {3, 0, 7}},
    {"pixel_shuffle",
     "pixel_shuffle",
     kImage,
     R"("factor":[1,2],"crop":[0,1,0,2],"order":"pixels")",
     "[N, H, ?, 2]",
     {2, 7, 5, 4},
     {2, 7, 7, 2}},
    {"pixel_shuffle_of_little",
     "pixel_shuffle",
     kImage,
     R"("factor":[2,2],"crop":[2,0,1,0],"order":"channels")",
     "[N, ?, ?, 1]",
     {2, 1, 5, 4},
     {2, 0, 10, 1}},
    {"upsample_by_factors",
     "upsample",
     kImage,
     R"("mode":"nearest","align_corners":0,"size":[0,0],"factor":[3,1],"step":[0,0])",
     "[N, ?, W, 4]",
     {2, 7, 5, 4},
     {2, 21, 5, 4}},
    {"upsample_to_a_size",
     "upsample",
     kImage,
     R"("mode":"bilinear","align_corners":1,"size":[3,9],"factor":[0,0],"step":[0,0])",
     "[N, 3, 9, 4]",
     {2, 7, 5, 4},
     {2, 3, 9, 4}},
    {"upsample_of_nothing",
     "upsample",
     kImage,
     R"("mode":"nearest","align_corners":0,"size":[0,3],"factor":[3,0],"step":[0,0])",
     "[N, ?, 3, 4]",
     {2, 0, 5, 4},
     {}},
    {"upsample_beyond_2_31",
     "upsample",
     kImage,
     R"("mode":"nearest","align_corners":0,"size":[0,1],"factor":[65535,0],"step":[0,0])",
     "[N, ?, 1, 4]",
     {1, 65536, 1, 4},
     {}},
};

struct ProductRow {
  const char* name;
  std::string a, b;
  int transpose_b;
  std::string stored;
  ConcreteShape shape_a, shape_b, output;  // shapes of one run; an empty output stands for the error kInvalidArgument
};
void PrintTo(const ProductRow& row, std::ostream* out) { *out << row.name; }

class ProductShape : public testing::TestWithParam<ProductRow> {};

TEST_P(ProductShape, GivesTheStoredAndTheConcreteShape) {
  const ProductRow& row = GetParam();
  ModelBuilder b;
  const int x = b.AddInput("a", row.a), y = b.AddInput("b", row.b);
  b.AddOutput("y", b.AddNode("matmul", {x, y}, -1, {}, R"("transpose_b":)" + std::to_string(row.transpose_b)));
  const auto model = b.Build();
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(ShapeText(model.value()->graph(), model.value()->graph().values[2].shape), row.stored);
  const auto shapes = model.value()->Shapes(std::vector<ConcreteShape>{row.shape_a, row.shape_b});
  if (row.output.empty()) {
    ASSERT_FALSE(shapes.ok());
    EXPECT_EQ(shapes.status().code(), Code::kInvalidArgument);
  } else {
    ASSERT_TRUE(shapes.ok()) << shapes.status().message();
    EXPECT_EQ(shapes.value()[2], row.output);
  }
}

const ProductRow kProducts[] = {
    {"plain", R"("N",3)", R"(3,"W")", 0, "[N, W]", {2, 3}, {3, 5}, {2, 5}},
    {"transposed", R"("N",4,"H",8)", R"("N",4,"H",8)", 1, "[N, 4, H, H]", {2, 4, 6, 8}, {2, 4, 6, 8}, {2, 4, 6, 6}},
    {"one_for_all", R"("N",2,3)", R"(1,3,4)", 0, "[N, 2, 4]", {5, 2, 3}, {1, 3, 4}, {5, 2, 4}},
    {"symbols_that_meet", R"(2,"H")", R"("W",3)", 0, "[2, 3]", {2, 4}, {4, 3}, {2, 3}},
    {"symbols_that_do_not_meet", R"(2,"H")", R"("W",3)", 0, "[2, 3]", {2, 4}, {5, 3}, {}},
    {"empty_sums", R"(2,"H")", R"("W",3)", 0, "[2, 3]", {2, 0}, {0, 3}, {2, 3}},
};

INSTANTIATE_TEST_SUITE_P(Rows, ProductShape, testing::ValuesIn(kProducts), [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(Rows, ShapeRule, testing::ValuesIn(kShapes), [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace pqi::test
