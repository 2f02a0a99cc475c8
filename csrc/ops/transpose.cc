// transpose: any permutation of the axes.
#include <array>
#include <cstring>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckSameType(view));
  AttrReader attrs(view);
  const auto list = attrs.List("perm");
  uint32_t seen = 0;
  for (const DimOrName& entry : list) {
    const uint64_t* axis = std::get_if<uint64_t>(&entry);
    if (axis && *axis < list.size()) seen |= 1u << *axis;
  }
  if (seen != (1u << list.size()) - 1) attrs.Fail("attribute 'perm' must be a permutation of the axes");
  return attrs.Finish();
}

std::vector<size_t> Permutation(const NodeView& view) {
  std::vector<size_t> perm;
  for (const DimOrName& entry : std::get<std::vector<DimOrName>>(view.node.attrs.at("perm"))) {
    perm.push_back(static_cast<size_t>(std::get<uint64_t>(entry)));
  }
  return perm;
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const std::vector<size_t> perm = Permutation(view);
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, perm.size()));
  Shape out;
  for (size_t axis : perm) out.push_back(inputs[0][axis]);
  outputs->assign(1, out);
  return {};
}

class TransposeStep : public Step {
 public:
  TransposeStep(std::vector<size_t> perm, size_t element_size) : perm_(std::move(perm)), element_size_(element_size) {
    info_ = {"copy", "data movement", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    if (element_size_ == 4) {
      Copy(args, args.in[0].f32(), args.out.mutable_f32());
    } else {
      Copy(args, args.in[0].u8(), args.out.mutable_u8());
    }
  }

 private:
  template <typename T>
  void Copy(const RunArgs& args, const T* x, T* y) const {
    const size_t rank = perm_.size();
    if (rank == 0) {
      *y = *x;
      return;
    }
    std::array<int64_t, kMaxRank> in_stride{}, stride{};
    int64_t s = 1;
    for (size_t i = rank; i-- > 0; s *= args.in[0].dim(i)) in_stride[i] = s;
    for (size_t i = 0; i < rank; ++i) stride[i] = in_stride[perm_[i]];
    const int64_t inner = args.out.dim(rank - 1), inner_stride = stride[rank - 1];
    ParallelFor(args.pool, args.out.count() / inner, kGrain / inner + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        int64_t from = 0;
        for (int64_t i = static_cast<int64_t>(rank) - 2, left = row; i >= 0; --i) {
          const size_t axis = static_cast<size_t>(i);
          from += left % args.out.dim(axis) * stride[axis];
          left /= args.out.dim(axis);
        }
        T* to = y + row * inner;
        for (int64_t j = 0; j < inner; ++j) to[j] = x[from + j * inner_stride];
      }
    });
  }

  std::vector<size_t> perm_;
  size_t element_size_;
};

Result<std::unique_ptr<Step>> Prepare(const PrepareContext& context) {
  return std::unique_ptr<Step>(std::make_unique<TransposeStep>(Permutation(context.view), DTypeSize(context.view.output(0).dtype)));
}

}  // namespace

const Op kTranspose = {{"transpose", Check, Infer, nullptr}, Prepare, nullptr};

}  // namespace pqi::ops
