// The C++ interface over the C one.
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "pyqinfer/pyqinfer.hpp"
#include "tests/api/small_model.h"

namespace {

pyqinfer::Model LoadSmall() {
  const auto small = pqi::test::SmallModel();
  return pyqinfer::Model::from_memory(small->bytes().data(), small->bytes().size());
}

TEST(CppApi, RunsTheModel) {
  const pyqinfer::Session session(LoadSmall());  // the session keeps the model
  const std::array<float, 8> x = {0.5f, 1, 1.5f, 2, -1, -1, -1, -1};
  const std::vector<pyqinfer::Tensor> out = session.run({pyqinfer::TensorView(x.data(), {2, 4})});
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].shape(), (pyqinfer::Shape{2, 3}));
  EXPECT_EQ(out[0].size(), 6u);
  EXPECT_EQ(out[0].data<float>()[0], 15);
  EXPECT_EQ(out[1].data<uint8_t>()[3], 132);
  EXPECT_THROW(out[1].data<float>(), pyqinfer::Error);
}

TEST(CppApi, DescribesTheModel) {
  const pyqinfer::Model model = LoadSmall();
  EXPECT_EQ(model.inputs()[0].name, "x");
  EXPECT_EQ(model.inputs()[0].shape, (pyqinfer::Shape{-1, 4}));
  EXPECT_EQ(model.outputs()[1].dtype, PQI_U8);
  pyqinfer::SessionOptions options;
  options.isa = "reference";
  const pyqinfer::Session session(model, options);
  EXPECT_EQ(session.isa(), "reference");
  EXPECT_EQ(session.warning(), "");
  EXPECT_EQ(session.layers()[1].executed_as, "reference");
}

TEST(CppApi, TakesIndices) {
  pqi::test::ModelBuilder b;
  const int x = b.AddIndices("x", R"("N")");
  b.AddOutput("y", b.AddNode("embedding", {x}, -1, {{"weight", b.AddFloats({3, 2}, {1, 2, 3, 4, 5, 6})}}, R"("step":1)"));
  const auto built = b.Build().value();
  const pyqinfer::Model model = pyqinfer::Model::from_memory(built->bytes().data(), built->bytes().size());
  EXPECT_EQ(model.inputs()[0].dtype, PQI_I32);
  const pyqinfer::Session session(model);
  const std::array<int32_t, 2> indices = {2, 0};
  const std::vector<pyqinfer::Tensor> out = session.run({pyqinfer::TensorView(indices.data(), {2})});
  EXPECT_EQ(std::vector<float>(out[0].data<float>(), out[0].data<float>() + 4), (std::vector<float>{5, 6, 1, 2}));
  const std::array<float, 2> floats = {0, 0};
  EXPECT_THROW(session.run({pyqinfer::TensorView(floats.data(), {2})}), pyqinfer::Error);
  const std::array<int32_t, 2> outside = {0, 3};
  EXPECT_THROW(session.run({pyqinfer::TensorView(outside.data(), {2})}), pyqinfer::Error);
}

TEST(CppApi, ThrowsWhatWentWrong) {
  try {
    pyqinfer::Model::load("/no/such/file.pqi");
    FAIL();
  } catch (const pyqinfer::Error& e) {
    EXPECT_EQ(e.status(), PQI_ERR_IO);
    EXPECT_NE(std::string(e.what()).find("/no/such/file.pqi"), std::string::npos);
  }
  const pyqinfer::Session session(LoadSmall());
  const float x[4] = {};
  EXPECT_THROW(session.run({}), pyqinfer::Error);
  EXPECT_THROW(session.run({pyqinfer::TensorView(x, {1, 5})}), pyqinfer::Error);
  EXPECT_THROW(session.run({pyqinfer::TensorView(x, {-1, 4})}), pyqinfer::Error);
  EXPECT_THROW(pyqinfer::TensorView(x, pyqinfer::Shape(9, 1)), pyqinfer::Error);
}

TEST(CppApi, LimitsARun) {
  const pyqinfer::Session session(LoadSmall());
  const float x[4] = {};
  const std::vector<pyqinfer::TensorView> inputs{pyqinfer::TensorView(x, {1, 4})};
  const auto status_of = [&](const pyqinfer::RunOptions& options) {
    try {
      session.run(inputs, options);
      return PQI_OK;
    } catch (const pyqinfer::Error& e) {
      return e.status();
    }
  };
  pyqinfer::RunOptions options;
  options.max_memory = session.run_bytes(inputs);
  EXPECT_EQ(status_of(options), PQI_OK);
  --options.max_memory;
  EXPECT_EQ(status_of(options), PQI_ERR_NOMEM);
  // An output of 2^40 bytes: refused before the memory for it is asked for.
  EXPECT_THROW(session.run({pyqinfer::TensorView(x, {int64_t{1} << 30, 4})}, options), pyqinfer::Error);
  std::atomic<bool> cancel{false};
  options = {0, &cancel};
  EXPECT_EQ(status_of(options), PQI_OK);
  cancel = true;
  EXPECT_EQ(status_of(options), PQI_ERR_CANCELLED);
}

TEST(CppApi, OneSessionServesManyThreads) {
  const pyqinfer::Session session(LoadSmall());
  std::vector<std::thread> threads;
  std::array<float, 6> first{};
  for (size_t t = 0; t < first.size(); ++t) {
    threads.emplace_back([&, t] {
      const std::vector<float> x(4, static_cast<float>(t));
      for (int i = 0; i < 100; ++i) first[t] = session.run({pyqinfer::TensorView(x.data(), {1, 4})})[0].data<float>()[0];
    });
  }
  for (std::thread& t : threads) t.join();
  for (size_t t = 0; t < first.size(); ++t) EXPECT_EQ(first[t], 10 * static_cast<float>(t));
}

}  // namespace
