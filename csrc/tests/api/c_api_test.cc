// The C interface: a run, and every misuse that it can see.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>

#include "pyqinfer/pyqinfer.h"
#include "tests/api/small_model.h"

namespace pqi::test {
namespace {

// An instruction set of another architecture, so that no CPU that runs this has it.
#if defined(__x86_64__)
constexpr const char* kForeignIsa = "neon";
#else
constexpr const char* kForeignIsa = "avx2";
#endif

class CApi : public testing::Test {
 protected:
  CApi() {
    const auto small = SmallModel();
    bytes_.assign(small->bytes().begin(), small->bytes().end());
    EXPECT_EQ(pqi_model_from_memory(bytes_.data(), bytes_.size(), &model_, &error_), PQI_OK) << error_.message;
    EXPECT_EQ(pqi_session_create(model_, nullptr, &session_, &error_), PQI_OK) << error_.message;
    in_ = {PQI_F32, 2, {2, 4}, x_, sizeof x_};
    out_[0] = {PQI_F32, 0, {0}, y_, sizeof y_};
    out_[1] = {PQI_F32, 0, {0}, codes_, sizeof codes_};
  }
  ~CApi() override {
    pqi_model_free(model_);  // a session keeps what it needs
    EXPECT_EQ(pqi_session_run(session_, &in_, 1, out_, 2, &error_), PQI_OK) << error_.message;
    pqi_session_free(session_);
  }

  std::vector<uint8_t> bytes_;
  pqi_error error_ = PQI_ERROR_INIT;
  pqi_model* model_ = nullptr;
  pqi_session* session_ = nullptr;
  float x_[8] = {0.5f, 1, 1.5f, 2, -1, -1, -1, -1};
  float y_[6] = {};
  uint8_t codes_[8] = {};
  pqi_tensor in_, out_[2];
};

TEST_F(CApi, RunsTheModel) {
  ASSERT_EQ(pqi_session_run(session_, &in_, 1, out_, 2, &error_), PQI_OK) << error_.message;
  const float expected[] = {15, 0, -5, -10, 0, 4};  // 0.5 * (1*1 + 2*2 + 3*3 + 4*4), ...
  EXPECT_EQ(std::memcmp(y_, expected, sizeof y_), 0) << y_[0] << " " << y_[2] << " " << y_[3];
  EXPECT_EQ(codes_[3], 132);
  EXPECT_EQ(out_[0].dtype, PQI_F32);
  EXPECT_EQ(out_[1].dtype, PQI_U8);
  EXPECT_EQ(out_[0].rank, 2u);
  EXPECT_EQ(out_[0].shape[0], 2);
  EXPECT_EQ(out_[0].shape[1], 3);
  EXPECT_EQ(out_[0].bytes, sizeof y_);
}

TEST_F(CApi, DescribesPortsAndLayers) {
  ASSERT_EQ(pqi_model_input_count(model_), 1u);
  ASSERT_EQ(pqi_model_output_count(model_), 2u);
  pqi_port port = PQI_PORT_INIT;
  ASSERT_EQ(pqi_model_input(model_, 0, &port, nullptr), PQI_OK);
  EXPECT_STREQ(port.name, "x");
  EXPECT_EQ(port.rank, 2u);
  EXPECT_EQ(port.shape[0], -1);
  EXPECT_EQ(port.shape[1], 4);
  ASSERT_EQ(pqi_model_output(model_, 1, &port, nullptr), PQI_OK);
  EXPECT_STREQ(port.name, "codes");
  EXPECT_EQ(port.dtype, PQI_U8);
  ASSERT_EQ(pqi_session_layer_count(session_), 2u);
  pqi_layer layer = PQI_LAYER_INIT;
  ASSERT_EQ(pqi_session_layer(session_, 1, &layer, nullptr), PQI_OK);
  EXPECT_STREQ(layer.op, "linear");
  EXPECT_EQ(layer.weight_bits, 8);
  EXPECT_NE(std::string(layer.executed_as), "");
  EXPECT_STRNE(pqi_session_isa(session_), "unknown");
  EXPECT_STREQ(pqi_session_warning(session_), "");
  EXPECT_STREQ(pqi_session_warning(nullptr), "");
}

TEST_F(CApi, InfersOutputs) {
  in_.shape[0] = 7;
  ASSERT_EQ(pqi_session_infer(session_, &in_, 1, out_, 2, &error_), PQI_OK) << error_.message;
  EXPECT_EQ(out_[0].bytes, 7u * 3 * 4);
  EXPECT_EQ(out_[1].shape[0], 7);
  in_.shape[0] = 2;
  out_[0].bytes = sizeof y_;
}

TEST_F(CApi, AnEmptyBatchNeedsNoMemory) {
  pqi_tensor in = {PQI_F32, 2, {0, 4}, nullptr, 0};
  pqi_tensor out[2] = {{PQI_F32, 0, {0}, nullptr, 0}, {PQI_F32, 0, {0}, nullptr, 0}};
  EXPECT_EQ(pqi_session_run(session_, &in, 1, out, 2, &error_), PQI_OK) << error_.message;
  EXPECT_EQ(out[0].shape[0], 0);
}

TEST_F(CApi, BytesMayGoAwayAfterLoading) {
  pqi_model* model = nullptr;
  std::vector<uint8_t> misaligned(bytes_.size() + 1);
  std::memcpy(misaligned.data() + 1, bytes_.data(), bytes_.size());
  ASSERT_EQ(pqi_model_from_memory(misaligned.data() + 1, bytes_.size(), &model, &error_), PQI_OK) << error_.message;
  std::fill(misaligned.begin(), misaligned.end(), uint8_t{0});
  pqi_session* session = nullptr;
  ASSERT_EQ(pqi_session_create(model, nullptr, &session, &error_), PQI_OK);
  EXPECT_EQ(pqi_session_run(session, &in_, 1, out_, 2, &error_), PQI_OK);
  EXPECT_EQ(y_[0], 15);
  pqi_session_free(session);
  pqi_model_free(model);
}

struct Misuse {
  const char* name;
  // A call with something wrong, which gives the status.
  std::function<pqi_status(pqi_model*, pqi_session*, pqi_tensor in, pqi_tensor* out, pqi_error*)> call;
  pqi_status status;
  const char* message;
};
void PrintTo(const Misuse& row, std::ostream* out) { *out << row.name; }

class CApiMisuse : public CApi, public testing::WithParamInterface<Misuse> {};

TEST_P(CApiMisuse, GivesAStatusAndAMessage) {
  const Misuse& row = GetParam();
  pqi_tensor out[2] = {out_[0], out_[1]};
  EXPECT_EQ(row.call(model_, session_, in_, out, &error_), row.status) << error_.message;
  EXPECT_EQ(error_.status, row.status);
  EXPECT_NE(std::string(error_.message).find(row.message), std::string::npos) << error_.message;
  EXPECT_EQ(y_[0], 0) << "outputs are untouched on failure";
}

pqi_status Run(pqi_session* s, pqi_tensor in, pqi_tensor* out, pqi_error* e) { return pqi_session_run(s, &in, 1, out, 2, e); }

#define PQI_CALL [](pqi_model * m, pqi_session * s, pqi_tensor in, pqi_tensor * out, pqi_error * e) -> pqi_status
#define PQI_UNUSED (void)m, (void)s, (void)in, (void)out

pqi_status Create(pqi_model* m, pqi_session_options options, pqi_error* e) {
  pqi_session* session = nullptr;
  const pqi_status status = pqi_session_create(m, &options, &session, e);
  EXPECT_EQ(session, nullptr);
  return status;
}

const Misuse kMisuses[] = {{"load_null_path", PQI_CALL{PQI_UNUSED;
pqi_model* p = nullptr;
return pqi_model_load(nullptr, &p, e);
}  // namespace
, PQI_ERR_ARGUMENT, "path is NULL"
}  // namespace pqi::test
, {"load_null_result", PQI_CALL{PQI_UNUSED;
return pqi_model_load("x", nullptr, e);
}
, PQI_ERR_ARGUMENT, "model is NULL"
}
, {"load_missing_file", PQI_CALL{PQI_UNUSED;
pqi_model* p = nullptr;
return pqi_model_load("/no/such/file", &p, e);
}
, PQI_ERR_IO, "/no/such/file"
}
, {"load_empty_memory", PQI_CALL{PQI_UNUSED;
pqi_model* p = nullptr;
return pqi_model_from_memory("", 0, &p, e);
}
, PQI_ERR_FORMAT, ""
}
, {"load_null_memory", PQI_CALL{PQI_UNUSED;
pqi_model* p = nullptr;
return pqi_model_from_memory(nullptr, 4, &p, e);
}
, PQI_ERR_ARGUMENT, "data"
}
, {"port_null_model", PQI_CALL{PQI_UNUSED;
pqi_port p = PQI_PORT_INIT;
return pqi_model_input(nullptr, 0, &p, e);
}
, PQI_ERR_ARGUMENT, "model"
}
, {"port_out_of_range", PQI_CALL{PQI_UNUSED;
pqi_port p = PQI_PORT_INIT;
return pqi_model_input(m, 1, &p, e);
}
, PQI_ERR_ARGUMENT, "there are 1"
}
, {"port_struct_size", PQI_CALL{PQI_UNUSED;
pqi_port p = PQI_PORT_INIT;
p.struct_size = 8;
return pqi_model_output(m, 0, &p, e);
}
, PQI_ERR_ARGUMENT, "struct_size"
}
, {"layer_out_of_range", PQI_CALL{PQI_UNUSED;
pqi_layer l = PQI_LAYER_INIT;
return pqi_session_layer(s, 2, &l, e);
}
, PQI_ERR_ARGUMENT, "2 layers"
}
, {"layer_null", PQI_CALL{PQI_UNUSED;
return pqi_session_layer(s, 0, nullptr, e);
}
, PQI_ERR_ARGUMENT, "layer"
}
, {"options_struct_size", PQI_CALL{PQI_UNUSED;
return Create(m, {7, 1, nullptr, nullptr, nullptr}, e);
}
, PQI_ERR_ARGUMENT, "struct_size is 7"
}
, {"options_no_threads", PQI_CALL{PQI_UNUSED;
return Create(m, {sizeof(pqi_session_options), 0, nullptr, nullptr, nullptr}, e);
}
, PQI_ERR_ARGUMENT, "threads"
}
, {"options_unknown_isa", PQI_CALL{PQI_UNUSED;
return Create(m, {sizeof(pqi_session_options), 1, "sse9", nullptr, nullptr}, e);
}
, PQI_ERR_ARGUMENT, "sse9"
}
, {"options_isa_of_no_cpu", PQI_CALL{PQI_UNUSED;
pqi_status x = Create(m, {sizeof(pqi_session_options), 1, kForeignIsa, nullptr, nullptr}, e);
return x;
}
, PQI_ERR_UNSUPPORTED, kForeignIsa
}
, {"run_null_session", PQI_CALL{PQI_UNUSED;
return Run(nullptr, in, out, e);
}
, PQI_ERR_ARGUMENT, "session"
}
, {"run_null_inputs", PQI_CALL{PQI_UNUSED;
return pqi_session_run(s, nullptr, 1, out, 2, e);
}
, PQI_ERR_ARGUMENT, "inputs"
}
, {"run_null_outputs", PQI_CALL{PQI_UNUSED;
return pqi_session_run(s, &in, 1, nullptr, 2, e);
}
, PQI_ERR_ARGUMENT, "outputs"
}
, {"run_no_inputs", PQI_CALL{PQI_UNUSED;
return pqi_session_run(s, &in, 0, out, 2, e);
}
, PQI_ERR_ARGUMENT, "expected 1 inputs, got 0"
}
, {"run_one_output", PQI_CALL{PQI_UNUSED;
return pqi_session_run(s, &in, 1, out, 1, e);
}
, PQI_ERR_ARGUMENT, "expected 2 outputs, got 1"
}
, {"run_rank_9", PQI_CALL{PQI_UNUSED;
in.rank = 9;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "rank 9"
}
, {"run_rank_1", PQI_CALL{PQI_UNUSED;
in.rank = 1;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "x"
}
, {"run_dtype", PQI_CALL{PQI_UNUSED;
in.dtype = 7;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "f32"
}
, {"run_negative_dimension", PQI_CALL{PQI_UNUSED;
in.shape[0] = -2;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "-2"
}
, {"run_input_one_byte_short", PQI_CALL{PQI_UNUSED;
--in.bytes;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "is 32 bytes, got 31"
}
, {"run_input_too_long", PQI_CALL{PQI_UNUSED;
in.shape[0] = 1;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "is 16 bytes, got 32"
}
, {"run_null_input_data", PQI_CALL{PQI_UNUSED;
in.data = nullptr;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "no data"
}
, {"run_output_one_byte_short", PQI_CALL{PQI_UNUSED;
--out[0].bytes;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "needs 24 bytes"
}
, {"run_null_output_data", PQI_CALL{PQI_UNUSED;
out[1].data = nullptr;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "no memory"
}
, {"run_output_over_input", PQI_CALL{PQI_UNUSED;
out[0].data = in.data;
return Run(s, in, out, e);
}
, PQI_ERR_ARGUMENT, "overlaps"
}
,
}
;

INSTANTIATE_TEST_SUITE_P(Rows, CApiMisuse, testing::ValuesIn(kMisuses), [](const auto& row) { return std::string(row.param.name); });

TEST_F(CApi, WorksWithoutAnErrorStructAndIgnoresAWrongOne) {
  pqi_model* model = nullptr;
  EXPECT_EQ(pqi_model_load("/no/such/file", &model, nullptr), PQI_ERR_IO);
  pqi_error wrong = PQI_ERROR_INIT;
  wrong.struct_size = 3;
  EXPECT_EQ(pqi_model_load("/no/such/file", &model, &wrong), PQI_ERR_IO);
  EXPECT_EQ(wrong.message[0], '\0');
}

TEST_F(CApi, FreeingNothingIsFine) {
  pqi_model_free(nullptr);
  pqi_session_free(nullptr);
  EXPECT_EQ(pqi_model_input_count(nullptr), 0u);
  EXPECT_EQ(pqi_session_layer_count(nullptr), 0u);
}

TEST_F(CApi, BoundsTheMemoryOfARun) {
  size_t bytes = 0;
  ASSERT_EQ(pqi_session_run_bytes(session_, &in_, 1, &bytes, &error_), PQI_OK) << error_.message;
  EXPECT_GE(bytes, sizeof x_ + sizeof y_ + sizeof codes_);
  pqi_run_options options = PQI_RUN_OPTIONS_INIT;
  options.max_memory = bytes - 1;
  EXPECT_EQ(pqi_session_run_with(session_, &options, &in_, 1, out_, 2, &error_), PQI_ERR_NOMEM);
  EXPECT_NE(std::string(error_.message).find("max_memory"), std::string::npos) << error_.message;
  EXPECT_EQ(y_[0], 0);
  options.max_memory = bytes;
  EXPECT_EQ(pqi_session_run_with(session_, &options, &in_, 1, out_, 2, &error_), PQI_OK) << error_.message;
  EXPECT_EQ(y_[0], 15);
}

TEST_F(CApi, EndsARunThatIsCancelled) {
  int layers = 0;
  pqi_run_options options = PQI_RUN_OPTIONS_INIT;
  options.cancelled = [](void* count) { return ++*static_cast<int*>(count) == 2 ? 7 : 0; };
  options.context = &layers;
  EXPECT_EQ(pqi_session_run_with(session_, &options, &in_, 1, out_, 2, &error_), PQI_ERR_CANCELLED);
  EXPECT_EQ(layers, 2);
  EXPECT_EQ(pqi_session_run(session_, &in_, 1, out_, 2, &error_), PQI_OK) << error_.message;
  EXPECT_EQ(y_[0], 15);
}

// Another thread of the caller changes the arrays' descriptions after they were checked: those are read once.
TEST_F(CApi, ReadsDescriptionsOfArraysOnce) {
  pqi_run_options options = PQI_RUN_OPTIONS_INIT;
  options.cancelled = [](void* context) {
    auto* tensors = static_cast<pqi_tensor*>(context);
    for (int i = 0; i < 3; ++i) tensors[i] = {PQI_I32, 99, {-1}, nullptr, 0};
    return 0;
  };
  pqi_tensor tensors[3] = {in_, out_[0], out_[1]};
  options.context = tensors;
  EXPECT_EQ(pqi_session_run_with(session_, &options, tensors, 1, tensors + 1, 2, &error_), PQI_OK) << error_.message;
  EXPECT_EQ(y_[0], 15);
  EXPECT_EQ(tensors[1].data, static_cast<void*>(y_));
}

TEST_F(CApi, StatusesHaveNames) {
  EXPECT_STREQ(pqi_status_name(PQI_OK), "PQI_OK");
  EXPECT_STREQ(pqi_status_name(PQI_ERR_INTERNAL), "PQI_ERR_INTERNAL");
  EXPECT_STREQ(pqi_status_name(PQI_ERR_CANCELLED), "PQI_ERR_CANCELLED");
  EXPECT_STREQ(pqi_status_name(99), "unknown");
  EXPECT_STREQ(pqi_version(), PQI_VERSION);
}

TEST_F(CApi, EveryFlippedByteOfTheFileIsRefused) {
  for (size_t i = 0; i < bytes_.size(); ++i) {
    std::vector<uint8_t> changed = bytes_;
    changed[i] ^= 0x10;
    pqi_model* model = nullptr;
    const pqi_status status = pqi_model_from_memory(changed.data(), changed.size(), &model, nullptr);
    EXPECT_TRUE(status == PQI_ERR_FORMAT || status == PQI_ERR_INTEGRITY) << i << " " << pqi_status_name(status);
    pqi_model_free(model);
  }
}

}  // namespace
}  // namespace pqi::test
