// The plain loops of kernels/reference, for a kernel set that has no others.
#include <cstring>

#include "conv/method.h"
#include "kernels/reference/conv.h"

namespace pqi::conv {
namespace {

bool Suits(const Request& request) { return request.tile().mr == 0; }

// Weights stay in the order of the file.
void Layout(const Request& request, ConvLayout* layout) {
  const kernels::ConvShape& s = request.shape;
  layout->channels = static_cast<size_t>(s.oc);
  layout->panel_bytes = static_cast<size_t>(s.oc * s.taps() * s.group_inputs() * request.element_bytes());
}

void PackU8(const kernels::KernelSet&, const ConvLayout& layout, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
            Packed* packed) {
  std::memcpy(packed->buffer.data() + layout.weights, weights.codes, layout.panel_bytes);
  PackStartValues(layout, shape, weights, packed);
}

void PackF32(const ConvLayout& layout, const kernels::ConvShape&, const pack::WeightsF32& weights, uint8_t* buffer) {
  std::memcpy(buffer + layout.weights, weights.weights, layout.panel_bytes);
}

size_t ScratchBytes(const ConvLayout&, const kernels::ConvShape&) { return 0; }

void RunU8(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void*) noexcept {
  const kernels::Residual residual = ResidualAt(run.residual, run.shape, 0, 0);
  kernels::reference::Conv2dU8({run.shape, run.x, layer.zero_point, layer.weights(), layer.step, layer.base(), layer.scale(), layer.bias(),
                                residual, run.output, run.y, run.y_stride},
                               part.row_begin, part.row_end);
}

void RunF32(const LayerF32& layer, const ConvRun<float>& run, const ConvPart& part, void*) noexcept {
  const kernels::Residual residual = ResidualAt(run.residual, run.shape, 0, 0);
  kernels::reference::Conv2dF32({run.shape, run.x, layer.weights(), layer.bias(), residual, run.output.act_lo, run.output.act_hi,
                                 static_cast<float*>(run.y), run.y_stride},
                                part.row_begin, part.row_end);
}

Words Describe(const ConvLayout&, int) { return {"", "the reference instruction set has no tile kernels"}; }

}  // namespace

extern const ConvMethod kReferenceMethod = {"reference", Suits, Layout, PackU8,   PackF32, ScratchBytes,
                                            PixelWork,   RunU8, RunF32, Describe, nullptr};

}  // namespace pqi::conv
