// Runs a model on zeros: ./run model.pqi
#include <cstdio>
#include <vector>

#include "pyqinfer/pyqinfer.hpp"

int main(int argc, char** argv) try {
  auto model = pyqinfer::Model::load(argc > 1 ? argv[1] : "model.pqi");
  pyqinfer::SessionOptions options;
  options.threads = 2;
  pyqinfer::Session session(model, options);
  pyqinfer::Shape shape = model.inputs()[0].shape;
  size_t count = 1;
  for (int64_t& d : shape) count *= static_cast<size_t>(d = d < 0 ? 1 : d);  // an open dimension becomes 1
  std::vector<float> x(count);
  auto y = session.run({pyqinfer::TensorView(x.data(), shape)});
  for (size_t i = 0; i < y[0].size() && i < 5; ++i) std::printf("%g\n", y[0].data<float>()[i]);
  return 0;
} catch (const pyqinfer::Error& e) {
  std::fprintf(stderr, "%s: %s\n", pqi_status_name(e.status()), e.what());
  return 1;
}
