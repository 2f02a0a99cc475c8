// The op table of docs/format.md in rows: a valid node of each op, one row per way to break it, and rows of shapes in and out.
#include <gtest/gtest.h>

#include <set>

#include "graph/shapes.h"
#include "ops/op.h"
#include "tests/runtime/model_builder.h"

namespace pqi::test {
namespace {

std::string Conv(const std::string& more = kRelu) {
  return R"("stride":[1,1],"padding":[1,1,1,1],"dilation":[1,1],"groups":1,"step":1,)" + more;
}

// Each graph holds its node twice, and a row breaks the first one (n0): so a constant that n0 drops is still used.

// A conv2d from codes to codes, with scale, bias, base and a residual.
ModelBuilder IntegerConv() {
  ModelBuilder b;
  const int q = b.AddQuant(8, 3, 0, 255, 0.1f);
  const int x = b.AddInput("x", R"("N",6,5,4)", q);
  const int r = b.AddInput("r", R"("N",6,5,2)", q);
  const int w = b.AddCodes({2, 3, 3, 4}, 8, "none", std::vector<int8_t>(72, 7));
  const int scale = b.AddFloats({2}, {0.5f, -0.25f});
  const int bias = b.AddFloats({2}, {1, 2});
  const int base = b.AddInts({2}, {0, 4});
  for (const char* y : {"y", "z"}) {
    b.AddOutput(y, b.AddNode("conv2d", {x, r}, q, {{"weight", w}, {"scale", scale}, {"bias", bias}, {"base", base}}, Conv()));
  }
  return b;
}

ModelBuilder FloatConv() {
  ModelBuilder b;
  const int q = b.AddQuant(8, 3, 0, 255, 0.1f);
  const int x = b.AddInput("x", R"("N",6,5,2)");
  const int w = b.AddFloats({4, 1, 1, 1}, {1, 2, 3, 4});
  const std::string attrs = R"("stride":[2,2],"padding":[0,0,0,0],"dilation":[1,1],"groups":2,"step":1,)";
  for (const char* y : {"y", "z"}) {
    const int conv = b.AddNode("conv2d", {x}, -1, {{"weight", w}}, attrs + kNoActivation);
    b.AddOutput(y, b.AddNode("quantize", {conv}, q, {}, R"("layout":"same")"));
  }
  return b;
}

ModelBuilder Linear() {
  ModelBuilder b;
  const int q = b.AddQuant(8, 0, 0, 255, 0.1f);
  const int x = b.AddInput("x", R"("N",7,4)", q);
  const int w = b.AddCodes({3, 4}, 4, "nibble", std::vector<int8_t>(12, -3));
  const int scale = b.AddFloats({3}, {1, 1, 1});
  for (const char* y : {"y", "z"}) {
    b.AddOutput(y, b.AddNode("linear", {x}, -1, {{"weight", w}, {"scale", scale}}, std::string(R"("step":2,)") + kNoActivation));
  }
  return b;
}

// linear_dynamic with scales for two groups of two columns each, and with one scale per output.
ModelBuilder LinearDynamic() {
  ModelBuilder b;
  const int x = b.AddInput("x", R"("N",7,4)");
  const int w = b.AddCodes({3, 4}, 4, "nibble", std::vector<int8_t>(12, -3));
  const int scale = b.AddFloats({3, 2}, {1, 1, 1, 1, 1, 1});
  const int base = b.AddInts({3, 2}, {1, 1, 1, 1, 1, 1});
  const int plain = b.AddFloats({3}, {1, 1, 1});
  const std::string attrs = R"("mapping":"symmetric","granularity":"row","qmin":0,"qmax":255,"eps":872415232,"step":2,)";
  for (const char* y : {"y", "z"}) {
    const int v = b.AddNode("linear_dynamic", {x}, -1, {{"weight", w}, {"scale", scale}, {"base", base}}, attrs + kNoActivation);
    b.AddOutput(y, v);
  }
  b.AddOutput("p", b.AddNode("linear_dynamic", {x}, -1, {{"weight", w}, {"scale", plain}, {"bias", plain}}, attrs + kNoActivation));
  return b;
}

// A graph of one node over f32 or u8 inputs of one shape.
ModelBuilder Simple(const std::string& op, int inputs, bool u8_in, bool u8_out, const std::string& attrs) {
  ModelBuilder b;
  const int q = b.AddQuant(8, 3, 0, 255, 0.1f);
  std::vector<int> ids;
  for (int i = 0; i < inputs; ++i) ids.push_back(b.AddInput("x" + std::to_string(i), R"("N",6,5,4)", u8_in ? q : -1));
  int out = b.AddNode(op, ids, u8_out ? q : -1, {}, attrs);
  if (!u8_in && !u8_out) out = b.AddNode("quantize", {out}, q, {}, R"("layout":"same")");  // the quant must be used
  b.AddOutput("y", out);
  return b;
}

ModelBuilder Quantize() { return Simple("quantize", 1, false, true, R"("layout":"to_nhwc")"); }
ModelBuilder Dequantize() { return Simple("dequantize", 1, true, false, R"("layout":"to_nchw")"); }
ModelBuilder Transpose() { return Simple("transpose", 1, true, true, R"("perm":[0,3,1,2])"); }
ModelBuilder Reshape() { return Simple("reshape", 1, true, true, R"("shape":["N",30,"?"])"); }
ModelBuilder Add() { return Simple("add", 2, true, false, kRelu); }
ModelBuilder Clamp() { return Simple("clamp", 1, false, false, R"("lo":0,"hi":1086324736)"); }
ModelBuilder MaxPool() {
  return Simple("max_pool2d", 1, true, true, R"("kernel":[3,3],"stride":[2,2],"padding":[1,1,1,1],"dilation":[1,1],"ceil_mode":0)");
}
ModelBuilder AvgPool() {
  return Simple("avg_pool2d", 1, true, false, R"("kernel":[3,3],"stride":[2,2],"padding":[1,1,1,1],"ceil_mode":1,"count_include_pad":0)");
}
ModelBuilder Adaptive() { return Simple("adaptive_avg_pool2d", 1, true, true, R"("output":[2,3])"); }
ModelBuilder Mean() { return Simple("mean", 1, true, true, R"("keepdim":0)"); }

ModelBuilder Unary() { return Simple("unary", 1, false, true, R"("function":"elu","alpha":1065353216)"); }

ModelBuilder Binary() { return Simple("binary", 2, true, true, R"("function":"mul")"); }

ModelBuilder Reduce() { return Simple("reduce", 1, true, true, R"("function":"sum","axes":[1,3],"keepdim":0)"); }
ModelBuilder Cumsum() { return Simple("cumsum", 1, false, false, R"("axis":2)"); }
ModelBuilder Softmax() { return Simple("softmax", 1, false, true, R"("causal":1,"log":0)"); }
ModelBuilder LayerNorm() { return Simple("layer_norm", 1, false, true, R"("eps":925353388,"center":1)"); }
ModelBuilder GroupNorm() { return Simple("group_norm", 1, false, true, R"("eps":925353388,"groups":2)"); }
ModelBuilder Matmul() { return Simple("matmul", 2, true, true, R"("transpose_b":1)"); }

// Two layer norms with one weight and bias.
ModelBuilder WeightedLayerNorm() {
  ModelBuilder b;
  const int x = b.AddInput("x", R"("N",4)");
  const int weight = b.AddFloats({4}, {1, 2, 3, 4}), bias = b.AddFloats({4}, {0, 0, 0, 1});
  for (const char* y : {"y", "z"}) {
    b.AddOutput(y, b.AddNode("layer_norm", {x}, -1, {{"weight", weight}, {"bias", bias}}, R"("eps":0,"center":0)"));
  }
  return b;
}
ModelBuilder Concat() { return Simple("concat", 2, true, true, R"("axis":3)"); }
ModelBuilder Slice() { return Simple("slice", 1, true, true, R"("axis":1,"start":2,"end":5,"step":2)"); }
ModelBuilder Pad() { return Simple("pad", 1, true, true, R"("mode":"constant","before":[0,1,1,0],"after":[0,2,0,0],"value":3)"); }
ModelBuilder Reflect() { return Simple("pad", 1, true, true, R"("mode":"reflect","before":[0,5,1,0],"after":[0,2,0,0],"value":0)"); }
ModelBuilder PixelShuffle() { return Simple("pixel_shuffle", 1, true, true, R"("factor":[2,2],"crop":[1,0,0,9],"order":"channels")"); }
ModelBuilder Constant() {
  ModelBuilder b;
  b.AddInput("x", R"("N",4)");
  const int value = b.AddFloats({1, 4}, {1, 2, 3, 4});
  for (const char* y : {"y", "z"}) {
    const int token = b.AddNode("constant", {}, -1, {{"value", value}}, "");
    b.AddOutput(y, b.AddNode("expand", {token, 0}, -1, {}, R"("shape":["N",0])"));
  }
  return b;
}
// Two nodes over integers a and b of one shape.
ModelBuilder Integers(const std::string& op, const std::vector<int>& inputs, int quant, const std::string& attrs) {
  ModelBuilder b;
  b.AddIndices("a", R"("N",4)");
  b.AddIndices("b", R"("N",4)");
  const int truth = b.AddQuant(2, 0, 0, 1, 1.0f);
  for (const char* y : {"y", "z"}) b.AddOutput(y, b.AddNode(op, inputs, quant, {}, attrs));
  b.AddOutput("t", b.AddNode("compare", {0, 1}, truth, {}, R"("function":"eq")"));
  return b;
}
ModelBuilder Cast() { return Integers("cast", {0}, -1, ""); }
ModelBuilder Compare() { return Integers("compare", {0, 1}, 0, R"("function":"lt")"); }
ModelBuilder Integer() { return Integers("integer", {0, 1}, ModelBuilder::kIntegers, R"("function":"remainder")"); }
ModelBuilder Arange() { return Integers("arange", {0}, ModelBuilder::kIntegers, R"("axis":0,"start":4294967295,"step":2)"); }
ModelBuilder Gather() {
  ModelBuilder b;
  b.AddInput("x", R"("N",5,4)");
  b.AddIndices("i", R"("N",3,1)");
  for (const char* y : {"y", "z"}) b.AddOutput(y, b.AddNode("gather", {0, 1}, -1, {}, R"("axis":1)"));
  return b;
}
ModelBuilder Argmax() { return Integers("argmax", {0}, ModelBuilder::kIntegers, R"("function":"min","axis":1,"keepdim":0)"); }
ModelBuilder Where() {
  ModelBuilder b;
  b.AddInput("c", R"("N",4)", b.AddQuant(2, 0, 0, 1, 1.0f));
  b.AddInput("x", R"("N",4)");
  for (const char* y : {"y", "z"}) b.AddOutput(y, b.AddNode("where", {0, 1, 1}, -1, {}, ""));
  return b;
}
ModelBuilder Expand() {
  ModelBuilder b;
  const int q = b.AddQuant(8, 3, 0, 255, 0.1f);
  const int x = b.AddInput("x", R"(1,3,"N")", q), like = b.AddInput("like", R"("N",1)");
  b.AddOutput("y", b.AddNode("expand", {x, like}, q, {}, R"("shape":["N",3,0])"));
  return b;
}
ModelBuilder Upsample() {
  return Simple("upsample", 1, true, true, R"("mode":"bilinear","align_corners":0,"size":[0,9],"factor":[2,0],"step":[0,1056964608])");
}

ModelBuilder Prelu() {
  ModelBuilder b;
  const int x = b.AddInput("x", R"("N",4)");
  const int slope = b.AddFloats({4}, {1, 2, 3, 4});
  for (const char* y : {"y", "z"}) b.AddOutput(y, b.AddNode("prelu", {x}, -1, {{"slope", slope}}, ""));
  return b;
}

// Two readers of a table of codes and one of floats, which one input indexes.
ModelBuilder Embedding() {
  ModelBuilder b;
  const int x = b.AddIndices("x", R"("N",2)");
  const ModelBuilder::Constants codes{{"weight", b.AddCodes({5, 3}, 8, "none", std::vector<int8_t>(15, 7))},
                                      {"scale", b.AddFloats({5}, {1, 1, 1, 1, 1})},
                                      {"base", b.AddInts({5}, {1, 1, 1, 1, 1})}};
  for (const char* y : {"y", "w"}) b.AddOutput(y, b.AddNode("embedding", {x}, -1, codes, R"("step":2)"));
  b.AddOutput("z", b.AddNode("embedding", {x}, -1, {{"weight", b.AddFloats({4, 3}, std::vector<float>(12, 1))}}, R"("step":1)"));
  return b;
}

ModelBuilder Affine() {
  ModelBuilder b;
  const int x = b.AddInput("x", R"("N",4)");
  b.AddOutput("y",
              b.AddNode("affine", {x}, -1, {{"scale", b.AddFloats({4}, {1, 2, 3, 4})}, {"shift", b.AddFloats({4}, {0, 0, 0, 0})}}, ""));
  return b;
}

ModelBuilder Table() {
  ModelBuilder b;
  const int in = b.AddQuant(4, 0, 0, 15, 1), out = b.AddQuant(8, 10, 10, 20, 1);
  const int x = b.AddInput("x", R"("N",4)", in);
  std::vector<uint8_t> table(256, 255);  // unused entries may be anything
  for (size_t i = 0; i < 16; ++i) table[i] = static_cast<uint8_t>(10 + i % 11);
  const int constant = b.AddBytes({256}, table);
  for (const char* y : {"y", "z"}) b.AddOutput(y, b.AddNode("table", {x}, out, {{"table", constant}}, ""));
  return b;
}

ModelBuilder ChannelTable() {
  ModelBuilder b;
  const int q = b.AddQuant(8, 0, 0, 255, 1);
  const int x = b.AddInput("x", R"("N",4)", q);
  b.AddOutput("y", b.AddNode("table", {x}, q, {{"table", b.AddBytes({4, 256}, std::vector<uint8_t>(1024, 7))}}, ""));
  return b;
}

struct Row {
  const char* name;
  ModelBuilder (*base)();
  std::string from, to;  // the text of the graph's JSON that is replaced, and by what
  const char* message;   // a part of the error's text
};
void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

class BrokenNode : public testing::TestWithParam<Row> {};

// Holds D10, G8, G10, G11, G12, G14, G19, G20.
TEST_P(BrokenNode, IsRefused) {
  const Row& row = GetParam();
  const ModelBuilder builder = row.base();
  std::string json = builder.Json();
  const auto valid = builder.Build();
  ASSERT_TRUE(valid.ok()) << valid.status().message();
  const size_t at = json.find(row.from);
  ASSERT_NE(at, std::string::npos) << json;
  json.replace(at, row.from.size(), row.to);
  const auto broken = builder.BuildText(json);
  ASSERT_FALSE(broken.ok());
  EXPECT_EQ(broken.status().code(), Code::kModelFormat) << broken.status().message();
  EXPECT_NE(broken.status().message().find(row.message), std::string::npos) << broken.status().message();
  EXPECT_NE(broken.status().message().find("'n0'"), std::string::npos) << broken.status().message();
}

const Row kRows[] = {
    // attributes
    {"conv_stride_0", IntegerConv, R"("stride":[1,1])", R"("stride":[0,1])", "'stride'"},
    {"conv_dilation_0", IntegerConv, R"("dilation":[1,1])", R"("dilation":[1,0])", "'dilation'"},
    {"conv_groups_0", IntegerConv, R"("groups":1)", R"("groups":0)", "'groups'"},
    {"conv_groups_that_do_not_divide", IntegerConv, R"("groups":1)", R"("groups":3)", "groups"},
    {"conv_groups_of_other_channels", IntegerConv, R"("groups":1)", R"("groups":2)", "must be 8"},
    {"conv_padding_2_31_less_1", IntegerConv, R"("padding":[1,1,1,1])", R"("padding":[1,2147483647,1,1])", "'padding'"},
    {"conv_padding_of_two", IntegerConv, R"("padding":[1,1,1,1])", R"("padding":[1,1])", "'padding'"},
    {"conv_padding_named", IntegerConv, R"("padding":[1,1,1,1])", R"("padding":[1,1,1,"N"])", "'padding'"},
    {"conv_step_3", IntegerConv, R"("step":1)", R"("step":3)", "'step'"},
    {"conv_unknown_attribute", IntegerConv, R"("step":1)", R"("step":1,"bits":8)", "'bits'"},
    {"conv_missing_attribute", IntegerConv, R"("groups":1,)", "", "'groups' is missing"},
    {"conv_unknown_activation", IntegerConv, R"("relu")", R"("gelu")", "gelu"},
    {"conv_bounds_without_clamp", IntegerConv, R"("lo":0)", R"("lo":1)", "'lo'"},
    {"conv_clamp_of_nan", IntegerConv, kRelu, R"("activation":"clamp","lo":2143289344,"hi":0)", "lo <= hi"},
    {"conv_clamp_crossed", IntegerConv, kRelu, R"("activation":"clamp","lo":1065353216,"hi":0)", "lo <= hi"},
    {"pool_kernel_0", MaxPool, R"("kernel":[3,3])", R"("kernel":[3,0])", "'kernel'"},
    {"pool_stride_0", AvgPool, R"("stride":[2,2])", R"("stride":[0,2])", "'stride'"},
    {"pool_ceil_mode_2", MaxPool, R"("ceil_mode":0)", R"("ceil_mode":2)", "'ceil_mode'"},
    {"adaptive_output_0", Adaptive, R"("output":[2,3])", R"("output":[0,3])", "'output'"},
    {"mean_keepdim_2", Mean, R"("keepdim":0)", R"("keepdim":2)", "'keepdim'"},
    {"quantize_layout", Quantize, R"("to_nhwc")", R"("to_nchw")", "'layout'"},
    {"dequantize_layout", Dequantize, R"("to_nchw")", R"("nchw")", "'layout'"},
    {"transpose_axis_twice", Transpose, "[0,3,1,2]", "[0,3,1,1]", "permutation"},
    {"transpose_axis_4", Transpose, "[0,3,1,2]", "[0,4,1,2]", "permutation"},
    {"transpose_rank_3", Transpose, "[0,3,1,2]", "[0,2,1]", "rank 3"},
    {"reshape_two_unknown", Reshape, R"(["N",30,"?"])", R"(["?",30,"?"])", "one"},
    {"reshape_product", Reshape, R"(["N",30,"?"])", R"(["N",31,"?"])", "cannot reshape"},
    {"reshape_product_without_unknown", Reshape, R"(["N",30,"?"])", R"(["N",30,5])", "cannot reshape"},
    {"reshape_to_nine_dimensions", Reshape, R"(["N",30,"?"])", R"(["N",30,"?",1,1,1,1,1,1])", "at most 8 entries"},
    {"embedding_of_rank_8", Embedding, R"("dtype":"i32","shape":["N")", R"("dtype":"i32","shape":[1,1,1,1,1,1,"N")", "at most 7"},
    {"reshape_zero", Reshape, R"(["N",30,"?"])", R"(["N",0,"?"])", "'shape'"},
    {"reshape_overflow", Reshape, R"(["N",30,"?"])", R"(["N",2147483647,2147483647,2147483647])", "cannot reshape"},
    {"reshape_unknown_symbol", Reshape, R"(["N",30,"?"])", R"(["M",30,"?"])", "'M'"},
    {"clamp_crossed", Clamp, R"("hi":1086324736)", R"("hi":3212836864)", "lo <= hi"},
    {"clamp_unknown_attribute", Clamp, R"("lo":0)", R"("lo":0,"activation":"none")", "'activation'"},
    {"unary_of_no_function", Unary, R"("elu")", R"("tan")", "'function'"},
    {"unary_alpha_of_a_function_without", Unary, R"("elu")", R"("tanh")", "'alpha' must be 0"},
    {"unary_alpha_infinite", Unary, R"("alpha":1065353216)", R"("alpha":2139095040)", "finite"},
    {"linear_dynamic_mapping", LinearDynamic, R"("symmetric")", R"("affine")", "'mapping'"},
    {"linear_dynamic_granularity", LinearDynamic, R"("row")", R"("channel")", "'granularity'"},
    {"linear_dynamic_qmax_256", LinearDynamic, R"("qmax":255)", R"("qmax":256)", "'qmax'"},
    {"linear_dynamic_empty_range", LinearDynamic, R"("qmin":0)", R"("qmin":255)", "below 'qmax'"},
    {"linear_dynamic_eps_0", LinearDynamic, R"("eps":872415232)", R"("eps":0)", "'eps'"},
    {"linear_dynamic_eps_negative", LinearDynamic, R"("eps":872415232)", R"("eps":3019898880)", "'eps'"},
    {"linear_dynamic_eps_subnormal", LinearDynamic, R"("eps":872415232)", R"("eps":8388607)", "'eps'"},
    {"linear_dynamic_eps_of_nan", LinearDynamic, R"("eps":872415232)", R"("eps":2143289344)", "'eps'"},
    {"linear_dynamic_step_3", LinearDynamic, R"("step":2)", R"("step":3)", "'step'"},
    {"linear_dynamic_unknown_attribute", LinearDynamic, R"("step":2)", R"("step":2,"bits":8)", "'bits'"},
    {"linear_dynamic_without_scale", LinearDynamic, R"("scale":1,)", "", "'scale' is missing"},
    {"unary_of_indices", Unary, R"("name":"x0","dtype":"f32")", R"("name":"x0","dtype":"i32")", "must be f32 or u8, got i32"},
    {"embedding_of_floats", Embedding, R"("dtype":"i32","shape":["N")", R"("dtype":"f32","shape":["N")", "must be i32, got f32"},
    {"embedding_to_indices", Embedding, R"("name":"v1","dtype":"f32")", R"("name":"v1","dtype":"i32")", "must be f32 or u8, got i32"},
    {"embedding_step_3", Embedding, R"("step":2)", R"("step":3)", "'step'"},
    {"embedding_unknown_attribute", Embedding, R"("step":2)", R"("step":2,"padding_idx":0)", "'padding_idx'"},
    {"embedding_without_scale", Embedding, R"("scale":1,)", "", "goes with code weights"},
    {"embedding_without_weight", Embedding, R"("weight":0,)", "", "'weight' is missing"},
    {"embedding_scale_of_integers", Embedding, R"("scale":1)", R"("scale":2)", "'scale' must be f32"},
    {"embedding_table_of_integers", Embedding, R"("weight":0)", R"("weight":2)", "must be code or f32"},
    {"embedding_table_of_one_dimension", Embedding, R"("weight":0)", R"("weight":1)", "2 dimensions"},
    {"embedding_float_table_with_scale", Embedding, R"("weight":0)", R"("weight":3)", "goes with code weights"},
    {"linear_dynamic_float_weights", LinearDynamic, R"("weight":0)", R"("weight":1)", "must be code"},
    {"linear_dynamic_bias_in_groups", LinearDynamic, R"("base":2)", R"("base":2,"bias":1)", "shape [3]"},
    {"linear_dynamic_base_of_another_shape", LinearDynamic, R"("scale":1)", R"("scale":3)", "shape [3]"},
    {"linear_dynamic_residual", LinearDynamic, R"("inputs":[0])", R"("inputs":[0,0])", "takes 1 input"},
    {"linear_dynamic_of_other_features", LinearDynamic, R"("shape":["N",7,4])", R"("shape":["N",7,5])", "must be 4"},
    {"binary_of_no_function", Binary, R"("mul")", R"("pow")", "'function'"},
    {"binary_of_one_without_constant", Binary, R"("inputs":[0,1])", R"("inputs":[0])", "'other' is missing"},
    {"binary_of_shapes_that_do_not_broadcast", Binary, R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5,4])",
     R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5,3])", "do not broadcast"},
    {"binary_of_other_ranks", Binary, R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5,4])",
     R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5])", "do not broadcast"},
    {"reduce_of_no_function", Reduce, R"("sum")", R"("prod")", "'function'"},
    {"reduce_of_no_axis", Reduce, R"("axes":[1,3])", R"("axes":[])", "'axes'"},
    {"reduce_axis_twice", Reduce, R"("axes":[1,3])", R"("axes":[1,1])", "ascending"},
    {"reduce_axes_descending", Reduce, R"("axes":[1,3])", R"("axes":[3,1])", "ascending"},
    {"reduce_axis_named", Reduce, R"("axes":[1,3])", R"("axes":["N"])", "ascending"},
    {"reduce_axis_8", Reduce, R"("axes":[1,3])", R"("axes":[8])", "ascending"},
    {"reduce_axis_4", Reduce, R"("axes":[1,3])", R"("axes":[4])", "does not have"},
    {"reduce_keepdim_2", Reduce, R"("keepdim":0)", R"("keepdim":2)", "'keepdim'"},
    {"reduce_of_2_24_codes", Reduce, R"("shape":["N",6,5,4])", R"("shape":["N",4096,5,4096])", "2^23"},
    {"cumsum_axis_8", Cumsum, R"("axis":2)", R"("axis":8)", "'axis'"},
    {"cumsum_axis_of_no_dimension", Cumsum, R"("axis":2)", R"("axis":4)", "axis 4"},
    {"softmax_causal_2", Softmax, R"("causal":1)", R"("causal":2)", "'causal'"},
    {"softmax_causal_logarithm", Softmax, R"("log":0)", R"("log":1)", "exclude"},
    {"softmax_of_an_axis", Softmax, R"("log":0)", R"("log":0,"axis":1)", "'axis'"},
    {"layer_norm_eps_negative", LayerNorm, R"("eps":925353388)", R"("eps":3072836812)", "'eps'"},
    {"layer_norm_eps_nan", LayerNorm, R"("eps":925353388)", R"("eps":2143289344)", "'eps'"},
    {"layer_norm_center_2", LayerNorm, R"("center":1)", R"("center":2)", "'center'"},
    {"group_norm_eps_infinite", GroupNorm, R"("eps":925353388)", R"("eps":2139095040)", "'eps'"},
    {"group_norm_groups_0", GroupNorm, R"("groups":2)", R"("groups":0)", "'groups'"},
    {"group_norm_groups_that_do_not_divide", GroupNorm, R"("groups":2)", R"("groups":3)", "do not divide"},
    {"matmul_transpose_2", Matmul, R"("transpose_b":1)", R"("transpose_b":2)", "'transpose_b'"},
    {"matmul_of_other_lengths", Matmul, R"("transpose_b":1)", R"("transpose_b":0)", "cannot be multiplied"},
    {"matmul_of_batches_that_do_not_broadcast", Matmul, R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5,4])",
     R"("name":"x1","dtype":"u8","quant":0,"shape":["N",3,5,4])", "cannot be multiplied"},
    {"matmul_of_other_ranks", Matmul, R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5,4])",
     R"("name":"x1","dtype":"u8","quant":0,"shape":[6,5,4])", "one rank"},
    {"concat_axis_8", Concat, R"("axis":3)", R"("axis":8)", "'axis'"},
    {"concat_axis_of_no_dimension", Concat, R"("axis":3)", R"("axis":4)", "axis 4"},
    {"concat_of_other_dimensions", Concat, R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5,4])",
     R"("name":"x1","dtype":"u8","quant":0,"shape":["N",5,5,4])", "same shape"},
    {"concat_of_other_ranks", Concat, R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5,4])",
     R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5,4,1])", "same shape"},
    {"concat_of_floats_and_codes", Concat, R"("name":"x1","dtype":"u8","quant":0)", R"("name":"x1","dtype":"f32")", "must be u8"},
    {"concat_of_nothing", Concat, R"("inputs":[0,1])", R"("inputs":[])", "takes 1 to 64 inputs"},
    {"slice_axis_of_no_dimension", Slice, R"("axis":1)", R"("axis":4)", "axis 4"},
    {"slice_of_nothing", Slice, R"("start":2)", R"("start":5)", "'start'"},
    {"slice_behind_the_end", Slice, R"("start":2,"end":5)", R"("start":6,"end":7)", "dimension 0"},
    {"slice_step_0", Slice, R"("step":2)", R"("step":0)", "'step'"},
    {"slice_end_2_31", Slice, R"("end":5)", R"("end":2147483648)", "'end'"},
    {"pad_of_three_axes", Pad, R"("before":[0,1,1,0],"after":[0,2,0,0])", R"("before":[0,1,1],"after":[0,2,0])", "rank 3"},
    {"pad_of_unequal_lists", Pad, R"("before":[0,1,1,0])", R"("before":[0,1,1])", "'before'"},
    {"pad_65536", Pad, R"("before":[0,1,1,0])", R"("before":[0,65536,1,0])", "'before'"},
    {"pad_named", Pad, R"("after":[0,2,0,0])", R"("after":["N",2,0,0])", "'after'"},
    {"pad_value_that_is_no_code", Pad, R"("value":3)", R"("value":256)", "must be a code"},
    {"pad_value_without_constant", Pad, R"("constant")", R"("replicate")", "'value' must be 0"},
    {"pad_reflects_too_much", Reflect, R"("before":[0,5,1,0])", R"("before":[0,6,1,0])", "at least 7"},
    {"pixel_shuffle_of_other_channels", PixelShuffle, R"("factor":[2,2])", R"("factor":[2,3])", "divided into 6"},
    {"pixel_shuffle_factor_0", PixelShuffle, R"("factor":[2,2])", R"("factor":[0,2])", "'factor'"},
    {"pixel_shuffle_that_crops_all", PixelShuffle, R"("crop":[1,0,0,9])", R"("crop":[1,0,0,10])", "dimension 0"},
    {"pixel_shuffle_order", PixelShuffle, R"("channels")", R"("rows")", "'order'"},
    {"expand_to_a_symbol_of_nothing", Expand, R"("shape":["N",3,0])", R"("shape":["M",3,0])", "'M'"},
    {"cast_of_integers_to_integers", Cast, R"("name":"v2","dtype":"f32")", R"("name":"v2","dtype":"i32")", "casts"},
    {"compare_by_an_unknown_relation", Compare, R"("function":"lt")", R"("function":"near")", "'function'"},
    {"compare_of_integers_with_floats", Compare, R"("name":"b","dtype":"i32")", R"("name":"b","dtype":"f32")", "compares i32"},
    {"compare_to_floats", Compare, R"("name":"v2","dtype":"u8","quant":0)", R"("name":"v2","dtype":"f32")", "must be u8"},
    {"where_without_a_condition", Where, R"("inputs":[0,1,1])", R"("inputs":[1,1,1])", "condition"},
    {"where_of_two_types", Where, R"("inputs":[0,1,1])", R"("inputs":[0,1,0])", "same dtype"},
    {"integer_by_an_unknown_function", Integer, R"("function":"remainder")", R"("function":"power")", "'function'"},
    {"integer_to_floats", Integer, R"("name":"v2","dtype":"i32")", R"("name":"v2","dtype":"f32")", "must be i32"},
    {"arange_along_axis_4", Arange, R"("axis":0)", R"("axis":4)", "axis 4"},
    {"arange_of_floats", Arange, R"("name":"v2","dtype":"i32")", R"("name":"v2","dtype":"f32")", "must be i32"},
    {"arange_from_a_size_of_nothing", Arange, R"("start":4294967295)", R"("start":"M")", "'M'"},
    {"slice_to_a_size_of_nothing", Slice, R"("end":5)", R"("end":"M")", "'M'"},
    {"gather_along_axis_4", Gather, R"("axis":1)", R"("axis":4)", "axis 4"},
    {"gather_at_floats", Gather, R"("inputs":[0,1])", R"("inputs":[0,0])", "must be i32"},
    {"gather_of_another_dimension", Gather, R"("shape":["N",3,1])", R"("shape":["N",3,2])", "or 1, but for axis 1"},
    {"gather_of_another_rank", Gather, R"("shape":["N",3,1])", R"("shape":["N",3])", "rank 3"},
    {"gather_of_integers", Gather, R"("name":"v2","dtype":"f32")", R"("name":"v2","dtype":"i32")", "same dtype"},
    {"argmax_along_axis_4", Argmax, R"("axis":1)", R"("axis":4)", "axis 4"},
    {"argmax_of_another_function", Argmax, R"("function":"min")", R"("function":"mean")", "max, min"},
    {"argmax_of_floats", Argmax, R"("name":"v2","dtype":"i32")", R"("name":"v2","dtype":"f32")", "must be i32"},
    {"argmax_of_nothing", Argmax, R"("name":"a","dtype":"i32","shape":["N",4])", R"("name":"a","dtype":"i32","shape":["N",0])",
     "at least 1"},
    {"expand_of_a_dimension_of_3", Expand, R"("shape":["N",3,0])", R"("shape":["N",4,0])", "must be 1"},
    {"expand_of_rank_2", Expand, R"("shape":["N",3,0])", R"("shape":["N",3])", "rank 2"},
    {"expand_to_2_31", Expand, R"("shape":["N",3,0])", R"("shape":[2147483648,3,0])", "'shape'"},
    {"constant_of_something", Constant, R"("inputs":[])", R"("inputs":[0])", "takes 0 inputs"},
    {"constant_without_value", Constant, R"("constants":{"value":0})", R"("constants":{})", "'value' is missing"},
    {"upsample_size_and_factor", Upsample, R"("factor":[2,0])", R"("factor":[2,3])", "exactly one"},
    {"upsample_neither_size_nor_factor", Upsample, R"("size":[0,9])", R"("size":[0,0])", "exactly one"},
    {"upsample_factor_65536", Upsample, R"("factor":[2,0])", R"("factor":[65536,0])", "'factor'"},
    {"upsample_step_nan", Upsample, R"("step":[0,1056964608])", R"("step":[0,2143289344])", "'step'"},
    {"upsample_step_negative", Upsample, R"("step":[0,1056964608])", R"("step":[0,3204448256])", "'step'"},
    {"upsample_corners_by_a_step", Upsample, R"("align_corners":0)", R"("align_corners":1)", "'align_corners'"},
    {"upsample_rank_3", Upsample, R"("shape":["N",6,5,4])", R"("shape":["N",6,5])", "rank 4"},
    // arity and constants
    {"matmul_of_one", Matmul, R"("inputs":[0,1])", R"("inputs":[0])", "takes 2 inputs"},
    {"layer_norm_of_other_channels", WeightedLayerNorm, R"("shape":["N",4])", R"("shape":["N",5])", "must be 4"},
    {"layer_norm_weight_of_wrong_type", WeightedLayerNorm, R"("weight":0)", R"("scale":0)", "'scale'"},
    {"add_of_one", Add, R"("inputs":[0,1])", R"("inputs":[0])", "takes 2 inputs"},
    {"linear_of_three", Linear, R"("inputs":[0])", R"("inputs":[0,0,0])", "takes 1 to 2 inputs"},
    {"conv_without_weight", IntegerConv, R"("weight":0,)", "", "'weight' is missing"},
    {"conv_without_scale", IntegerConv, R"("scale":1,)", "", "'scale'"},
    {"conv_unknown_constant", IntegerConv, R"("bias":2)", R"("shift":2)", "'shift'"},
    {"conv_scale_of_wrong_type", IntegerConv, R"("scale":1)", R"("scale":3)", "must be f32"},
    {"conv_base_of_wrong_type", IntegerConv, R"("base":3)", R"("base":2)", "must be i32"},
    {"conv_weight_of_wrong_rank", IntegerConv, R"("weight":0)", R"("weight":2)", "4 dimensions"},
    {"conv_bias_of_wrong_shape", FloatConv, R"("weight":0)", R"("weight":0,"bias":0)", "shape [4]"},
    {"float_conv_with_scale", FloatConv, R"("weight":0)", R"("weight":0,"scale":0)", "'scale'"},
    {"float_conv_with_step_2", FloatConv, R"("step":1)", R"("step":2)", "'step' 1"},
    {"prelu_without_slope", Prelu, R"("constants":{"slope":0})", R"("constants":{})", "'slope' is missing"},
    {"prelu_of_other_channels", Prelu, R"("shape":["N",4])", R"("shape":["N",3])", "must be 4"},
    {"table_missing", Table, R"("constants":{"table":0})", R"("constants":{})", "'table' is missing"},
    // dtypes and quants
    {"conv_float_weights_of_codes", FloatConv, R"("name":"x","dtype":"f32")", R"("name":"x","dtype":"u8","quant":0)", "code weights"},
    {"quantize_of_codes", Quantize, R"("name":"x0","dtype":"f32")", R"("name":"x0","dtype":"u8","quant":0)", "must be f32"},
    {"unary_of_codes", Unary, R"("name":"x0","dtype":"f32")", R"("name":"x0","dtype":"u8","quant":0)", "must be f32"},
    {"cumsum_of_codes", Cumsum, R"("name":"x0","dtype":"f32")", R"("name":"x0","dtype":"u8","quant":0)", "same dtype"},
    {"softmax_of_codes", Softmax, R"("name":"x0","dtype":"f32")", R"("name":"x0","dtype":"u8","quant":0)", "must be f32"},
    {"layer_norm_of_codes", LayerNorm, R"("name":"x0","dtype":"f32")", R"("name":"x0","dtype":"u8","quant":0)", "must be f32"},
    {"matmul_of_codes_and_floats", Matmul, R"("name":"x1","dtype":"u8","quant":0)", R"("name":"x1","dtype":"f32")", "must be u8"},
    {"dequantize_to_codes", Dequantize, R"("name":"v1","dtype":"f32")", R"("name":"v1","dtype":"u8","quant":0)", "must be f32"},
    {"max_pool_changes_dtype", MaxPool, R"("name":"v1","dtype":"u8","quant":0)", R"("name":"v1","dtype":"f32")", "same dtype"},
    {"reshape_changes_dtype", Reshape, R"("name":"v1","dtype":"u8","quant":0)", R"("name":"v1","dtype":"f32")", "same dtype"},
    {"slice_changes_dtype", Slice, R"("name":"v1","dtype":"u8","quant":0)", R"("name":"v1","dtype":"f32")", "same dtype"},
    {"pixel_shuffle_changes_dtype", PixelShuffle, R"("name":"v1","dtype":"u8","quant":0)", R"("name":"v1","dtype":"f32")", "same dtype"},
    {"pad_changes_dtype", Pad, R"("name":"v1","dtype":"u8","quant":0)", R"("name":"v1","dtype":"f32")", "same dtype"},
    // shapes
    {"conv_residual_of_another_shape", IntegerConv, R"("name":"r","dtype":"u8","quant":0,"shape":["N",6,5,2])",
     R"("name":"r","dtype":"u8","quant":0,"shape":["N",6,4,2])", "residual"},
    {"add_of_other_shapes", Add, R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5,4])",
     R"("name":"x1","dtype":"u8","quant":0,"shape":["N",6,5])", "same shape"},
    {"conv_window_larger_than_image", IntegerConv, R"("dilation":[1,1])", R"("dilation":[4,1])", "leaves no output"},
    {"max_pool_window_in_the_padding", MaxPool, R"("padding":[1,1,1,1])", R"("padding":[3,1,1,1])", "without any position"},
    {"avg_pool_window_in_the_padding", AvgPool, R"("padding":[1,1,1,1])", R"("padding":[1,3,1,1])", "without any position"},
    {"avg_pool_window_of_2_24", AvgPool, R"("kernel":[3,3])", R"("kernel":[4096,4096])", "2^23"},
    {"mean_of_rank_3", Mean, R"("shape":["N",6,5,4])", R"("shape":["N",6,5])", "rank 4"},
    {"group_norm_of_rank_3", GroupNorm, R"("shape":["N",6,5,4])", R"("shape":["N",6,4])", "rank 4"},
    {"linear_of_other_features", Linear, R"("shape":["N",7,4])", R"("shape":["N",7,5])", "must be 4"},
    {"affine_of_other_channels", Affine, R"("shape":["N",4])", R"("shape":["N",3])", "must be 4"},
    {"table_of_other_channels", ChannelTable, R"("shape":["N",4])", R"("shape":["N",3])", "must be 4"},
    {"table_of_128_entries", ChannelTable, R"("shape":[4,256])", R"("shape":[8,128])", "shape [256]"},
    {"quantize_to_nhwc_of_rank_3", Quantize, R"("shape":["N",6,5,4])", R"("shape":["N",6,5])", "rank 4"},
};

INSTANTIATE_TEST_SUITE_P(Rows, BrokenNode, testing::ValuesIn(kRows), [](const auto& row) { return std::string(row.param.name); });

// A new op needs rows here: one that breaks each of its rules, the valid node being its base.
TEST(Rows, BreakEveryOp) {
  std::set<std::string> broken;
  for (const Row& row : kRows) {
    const std::string json = row.base().Json(), key = R"("op":")";
    const size_t at = json.find(key) + key.size();
    broken.insert(json.substr(at, json.find('"', at) - at));
  }
  for (const ops::Op* op : ops::AllOps()) EXPECT_EQ(broken.count(op->def.name), 1u) << op->def.name << ": no row of kRows breaks it";
}

TEST(UnknownOps, AreUnsupportedAndNamed) {
  const ModelBuilder builder = Mean();
  std::string json = builder.Json();
  json.replace(json.find("\"mean\""), 6, "\"fft\"");
  const auto model = builder.BuildText(json);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), Code::kUnsupported);
  EXPECT_NE(model.status().message().find("fft"), std::string::npos) << model.status().message();
  EXPECT_NE(model.status().message().find("n0"), std::string::npos) << model.status().message();
}

}  // namespace
}  // namespace pqi::test
