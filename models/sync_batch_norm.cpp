// SPDX-License-Identifier: Apache-2.0
#include "models/sync_batch_norm.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "base/error.hpp"

namespace triphase::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// gather(), looked at as it enters.
at::Tensor gathered(const GatherRows& gather, const at::Tensor& row) {
  const at::Tensor rows = gather(row.contiguous());
  TRIPHASE_CHECK(InternalError, rows.dim() == 2 && rows.size(0) > 0 && rows.size(1) == row.numel(),
                 "a row of ", row.numel(), " numbers was gathered into ", rows.sizes());
  return rows.to(row.options());
}

at::Tensor float64(const at::Tensor& tensor) { return tensor.to(at::kDouble); }

at::ScalarType statistics_dtype(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

/// This sharer's row: count, means, M2s. In float64, where a count is exact up to 2^53.
at::Tensor own_statistics(const at::Tensor& x) {
  const std::int64_t channels = x.size(1);
  at::Tensor row = at::zeros({1 + 2 * channels}, x.options().dtype(at::kDouble));
  const double count = static_cast<double>(x.numel() / channels);
  if (count == 0) return row;
  // The running statistics are lent: without them the kernel would round its own to x's dtype.
  const at::Tensor lent = at::zeros({channels}, x.options().dtype(statistics_dtype(x)));
  const auto [mean, variance] = at::batch_norm_update_stats(x, lent, lent.clone(), 0.0);
  row[0] = count;
  row.slice(0, 1, 1 + channels).copy_(mean);
  row.slice(0, 1 + channels).copy_(float64(variance) * count);
  return row;
}

/// What backward needs besides tensors.
struct Sharing : torch::CustomClassHolder {
  GatherRows gather;
  double count = 0;
  double epsilon = 0;
};

// Note [Gradient of a shared batch]
// With y = w * (x - m) / s + b, N values a channel in all batches together, and g = dL/dy:
//   dL/dx = w / s * (g - mean(g) - xhat * mean(g * xhat)),  both means over the N values.
// torch's kernel for running statistics gives w / s * g and the sums of g and g * xhat over this
// batch; the sums are gathered and added in the order of the rows. The rest is an affine map of
// xhat, hence one more normalisation of x, with -w/s * mean(g * xhat) for its weight and -w/s *
// mean(g) for its bias.

struct NormaliseJointly : torch::autograd::Function<NormaliseJointly> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& mean,
                            const at::Tensor& variance,
                            const c10::intrusive_ptr<Sharing>& sharing) {
    context->save_for_backward({x, weight, mean, variance});
    context->saved_data["sharing"] = c10::IValue::make_capsule(sharing);
    return normalise(x, weight, bias, mean, variance, sharing->epsilon);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto sharing =
        c10::static_intrusive_pointer_cast<Sharing>(context->saved_data["sharing"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &mean = saved[2], &variance = saved[3];
    const bool needs_x = context->needs_input_grad(0);
    const at::Tensor inverse = at::rsqrt(variance + sharing->epsilon);
    auto [grad_x, sum_g_xhat, sum_g] = at::native_batch_norm_backward(
        gradients[0].contiguous(x.suggest_memory_format()), x, weight, mean, variance, mean,
        inverse, /*train=*/false, sharing->epsilon, {needs_x, true, true});
    if (needs_x) {
      const at::Tensor rows =
          gathered(sharing->gather, at::cat({float64(sum_g), float64(sum_g_xhat)}));
      at::Tensor sums = rows[0].clone();
      for (std::int64_t i = 1; i < rows.size(0); ++i) sums += rows[i];
      const std::vector<at::Tensor> means = (sums / sharing->count).chunk(2);
      const at::Tensor factor = -float64(weight) * float64(inverse);
      grad_x +=
          normalise(x, (factor * means[1]).to(mean.scalar_type()),
                    (factor * means[0]).to(mean.scalar_type()), mean, variance, sharing->epsilon);
    }
    return {grad_x, sum_g_xhat, sum_g, {}, {}, {}};
  }

  static at::Tensor normalise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              const at::Tensor& mean, const at::Tensor& variance, double epsilon) {
    return std::get<0>(at::native_batch_norm(x, weight, bias, mean, variance, /*training=*/false,
                                             /*momentum=*/0, epsilon));
  }
};

}  // namespace

JointStatistics join_statistics(const at::Tensor& x, const GatherRows& gather) {
  const at::NoGradGuard no_grad;
  const std::int64_t channels = x.size(1);
  const at::Tensor rows = gathered(gather, own_statistics(x));
  const at::Tensor counts = rows.select(1, 0).to(at::kCPU).contiguous();
  JointStatistics joint;
  at::Tensor mean = at::zeros({channels}, rows.options());
  at::Tensor squares = at::zeros({channels}, rows.options());
  for (std::int64_t i = 0; i < rows.size(0); ++i) {
    const double count = counts.const_data_ptr<double>()[i];
    if (count == 0) continue;
    const double total = joint.count + count;
    const at::Tensor distance = rows[i].slice(0, 1, 1 + channels) - mean;
    mean += distance * (count / total);
    squares += rows[i].slice(0, 1 + channels) + distance.square() * (joint.count * count / total);
    joint.count = total;
  }
  joint.mean = mean.to(statistics_dtype(x));
  joint.variance = (squares / joint.count).to(statistics_dtype(x));
  return joint;
}

at::Tensor normalise_jointly(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             const JointStatistics& joint, const GatherRows& gather,
                             double epsilon) {
  auto sharing = c10::make_intrusive<Sharing>();
  sharing->gather = gather;
  sharing->count = joint.count;
  sharing->epsilon = epsilon;
  return NormaliseJointly::apply(x, weight, bias, joint.mean, joint.variance, sharing);
}

}  // namespace triphase::models
