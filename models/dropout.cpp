// SPDX-License-Identifier: Apache-2.0
#include "models/dropout.hpp"

#include "base/error.hpp"
#include "base/random.hpp"
#include "base/torch_threads.hpp"
#include "models/dropout_mask.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <utility>

namespace triphase::models {
namespace {

// Note [Keyed dropout]
// LibTorch draws a dropout's numbers one after another on one core. Here each element has its own number, a
// hash of sample key, number of the dropout, row and column, so that threads share the work, backward draws
// the same again instead of keeping a mask, and a sample meets the same numbers on any number of ranks, and
// on a GPU.

constexpr std::int64_t kPiece = 1 << 15;  ///< elements that a thread takes at a time
constexpr std::uint64_t kBranchSize = std::uint64_t{1} << 32;

thread_local DropoutState current;

/// All that decides what is dropped.
struct Draw : torch::CustomClassHolder {
  std::shared_ptr<const SampleKeys> sample_keys;  ///< null: each sample has a key by its place in the batch
  std::uint64_t salt = 0;                         ///< another one for each dropout
  double p = 0;
  DropoutRows rows;
  at::Tensor device_bases;  ///< [samples] int64, base() of each, where the mask is made by dropped_elements()
  bool may_compile = true;

  [[nodiscard]] std::uint64_t base(std::int64_t sample) const {
    const auto b = static_cast<std::size_t>(sample);
    return sample_keys ? sample_keys->values()[b] : mix64(b);
  }
  [[nodiscard]] std::uint64_t sample_key(std::int64_t sample) const { return mix64(base(sample) ^ salt); }
};

struct RowStart {
  std::uint64_t key;
  std::int64_t column;
};

RowStart start_of(const Draw& draw, std::int64_t row) {
  const DropoutRows& rows = draw.rows;
  const std::int64_t in_head = row % rows.rows_per_head;
  const std::int64_t head = row / rows.rows_per_head % rows.heads;
  const std::int64_t chunks = row / rows.rows_per_head / rows.heads;
  const std::int64_t offset = chunks % rows.attention.num_chunks * rows.attention.stride;
  const auto place = static_cast<std::uint64_t>(head) << 32 | static_cast<std::uint64_t>(offset + in_head);
  return {mix64(draw.sample_key(chunks / rows.attention.num_chunks) ^ mix64(place)),
          offset - rows.attention.keys_before};
}

/// One hash serves two columns.
std::uint64_t pair_bits(std::uint64_t key, std::int64_t column) {
  return mix64(key + static_cast<std::uint64_t>(column >> 1) * 0x9e3779b97f4a7c15ULL);
}

template <class T>
void drop_stretch(const T* in, T* out, std::int64_t count, RowStart start, std::uint32_t threshold,
                  at::opmath_type<T> scale) {
  const auto put = [&](std::int64_t i, std::uint32_t bits) {
    out[i] = bits < threshold ? T(0) : static_cast<T>(static_cast<at::opmath_type<T>>(in[i]) * scale);
  };
  std::int64_t i = 0;
  if ((start.column & 1) != 0 && count > 0)
    put(i++, static_cast<std::uint32_t>(pair_bits(start.key, start.column) >> 32));
  for (; i + 1 < count; i += 2) {
    const std::uint64_t bits = pair_bits(start.key, start.column + i);
    put(i, static_cast<std::uint32_t>(bits));
    put(i + 1, static_cast<std::uint32_t>(bits >> 32));
  }
  if (i < count) put(i, static_cast<std::uint32_t>(pair_bits(start.key, start.column + i)));
}

at::Tensor dropped_by_mask(const at::Tensor& x, const Draw& draw) {
  const at::Tensor mask = dropped_elements(draw.device_bases, draw.salt, draw.p, draw.rows, draw.may_compile);
  at::Tensor out = at::empty_like(x);
  const auto in_memory_order = [&](const at::Tensor& tensor) {
    return tensor.as_strided(mask.sizes(), {draw.rows.columns, 1});
  };
  at::Tensor result = in_memory_order(out);
  at::mul_out(result, in_memory_order(x), at::scalar_tensor(1 / (1 - draw.p), at::kDouble)).masked_fill_(mask, 0);
  return out;
}

/// x with its dropped elements zero and the others scaled, in x's strides.
at::Tensor dropped(const at::Tensor& x, const Draw& draw) {
  if (draw.device_bases.defined()) return dropped_by_mask(x, draw);
  at::Tensor out = at::empty_like(x);
  const std::uint32_t threshold = dropout_threshold(draw.p);
  const std::int64_t columns = draw.rows.columns;
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "dropout", [&] {
    const auto* in = x.const_data_ptr<scalar_t>();
    auto* result = out.mutable_data_ptr<scalar_t>();
    const auto scale = static_cast<at::opmath_type<scalar_t>>(1 / (1 - draw.p));
    on_torch_threads((x.numel() + kPiece - 1) / kPiece, [&](std::int64_t piece) {
      const std::int64_t end = std::min(x.numel(), (piece + 1) * kPiece);
      for (std::int64_t begin = piece * kPiece; begin < end;) {
        RowStart start = start_of(draw, begin / columns);
        const std::int64_t in_row = begin % columns;
        const std::int64_t count = std::min(end - begin, columns - in_row);
        start.column += in_row;
        drop_stretch(in + begin, result + begin, count, start, threshold, scale);
        begin += count;
      }
    });
  });
  return out;
}

struct DropoutFunction : torch::autograd::Function<DropoutFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const c10::intrusive_ptr<Draw>& draw) {
    context->saved_data["draw"] = c10::IValue::make_capsule(draw);
    context->saved_data["strides"] = x.strides();
    return dropped(x, *draw);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto draw = c10::static_intrusive_pointer_cast<Draw>(context->saved_data["draw"].toCapsule());
    const auto strides = context->saved_data["strides"].toIntVector();
    at::Tensor gradient = gradients[0];
    if (gradient.strides() != at::IntArrayRef(strides))  // element i must be the one that forward met as i
      gradient = at::empty_strided(gradient.sizes(), strides, gradient.options()).copy_(gradient);
    return {dropped(gradient, *draw), at::Tensor()};
  }
};

std::uint64_t draw_seed() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::scoped_lock lock(generator.mutex());
  return at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
}

at::Tensor bases_on(const at::Device& device, const Draw& draw, std::int64_t num_samples) {
  if (draw.sample_keys) return draw.sample_keys->on(device);
  at::Tensor places = at::arange(num_samples, at::TensorOptions(at::kLong).device(device));
  return mix64_(places);
}

at::Tensor apply(const at::Tensor& x, double p, std::int64_t num_samples, const DropoutRows& rows,
                 DropoutForm form) {
  auto draw = c10::make_intrusive<Draw>();
  draw->p = p;
  draw->rows = rows;
  draw->sample_keys = current.sample_keys;
  draw->may_compile = form == DropoutForm::kAuto;
  if (current.sample_keys) {
    TRIPHASE_CHECK(InternalError, std::ssize(current.sample_keys->values()) == num_samples,
                   "dropout of ", num_samples, " samples, and there are keys for ",
                   current.sample_keys->values().size());
    draw->salt = mix64(current.num_drawn++);
  } else {
    draw->salt = draw_seed();
  }
  if (!x.is_cpu() || form == DropoutForm::kOperators)
    draw->device_bases = bases_on(x.device(), *draw, num_samples);
  return DropoutFunction::apply(x, draw);
}

/// Samples one after another in memory, none with gaps.
bool has_dense_samples(const at::Tensor& x) {
  return x.is_non_overlapping_and_dense() && (x.size(0) <= 1 || x.stride(0) == x.numel() / x.size(0));
}

}  // namespace

at::Tensor SampleKeys::on(const at::Device& device) const {
  if (!copy_.defined() || copy_.device() != device) {
    static_assert(sizeof(std::uint64_t) == sizeof(std::int64_t));
    const at::Tensor here = at::empty({std::ssize(values_)}, at::kLong);
    std::copy(values_.begin(), values_.end(), static_cast<std::uint64_t*>(here.mutable_data_ptr()));
    copy_ = here.to(device);
  }
  return copy_;
}

DropoutState dropout_state() { return current; }

DropoutScope::DropoutScope(DropoutState state) : before_(std::exchange(current, std::move(state))) {}

DropoutScope::DropoutScope(std::vector<std::uint64_t> sample_keys)
    : DropoutScope(
          DropoutState{std::make_shared<const SampleKeys>(std::move(sample_keys)), 0}) {}

DropoutScope::~DropoutScope() { current = std::move(before_); }

void begin_dropout_branch(DropoutBranch branch) {
  current.num_drawn = static_cast<std::uint64_t>(branch) * kBranchSize;
}

at::Tensor dropout(const at::Tensor& x, double p, DropoutForm form) {
  if (p == 0 || x.numel() == 0) return x;
  const at::Tensor dense = has_dense_samples(x) ? x : x.contiguous();
  return apply(dense, p, x.size(0), {.columns = x.numel() / x.size(0)}, form);
}

at::Tensor attention_dropout(const at::Tensor& probabilities, double p, const AttentionRows& rows,
                             DropoutForm form) {
  if (p == 0 || probabilities.numel() == 0) return probabilities;
  return apply(probabilities.contiguous(), p, probabilities.size(0) / rows.num_chunks,
               {.columns = probabilities.size(3),
                .rows_per_head = probabilities.size(2),
                .heads = probabilities.size(1),
                .attention = rows},
               form);
}

}  // namespace triphase::models
