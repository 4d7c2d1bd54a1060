// SPDX-License-Identifier: Apache-2.0
#include "models/recompute.hpp"

#include "base/error.hpp"
#include "models/dropout.hpp"
#include "models/precision.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <mutex>
#include <utility>
#include <vector>

namespace triphase::models {
namespace {

// Note [Recomputation]
// A custom function takes x and the trainable parameters as its inputs, runs the segment without a graph
// and keeps x. Its backward runs the segment again with a graph and asks for the gradients of x and of the
// parameters, which the outer engine accumulates: so a parameter's hook fires once, however often it is
// used. (An inner backward() instead would fire hooks once for each use.)
// Passed on to the replay: what dropout draws from, the state of the random generators when the first run drew
// from them, and autocast. Autocast's cache of cast weights is off in the replay: nobody would clear it before the next
// forward, which would then compute with the weights from before the optimizer step.

thread_local bool builds_graph = false;  ///< inside a segment's first run, where grad mode is off
thread_local bool replaying = false;     ///< inside a segment's second run

/// Sets a flag for a scope.
class FlagGuard {
 public:
  FlagGuard(bool& flag, bool value) : flag_(flag), before_(flag) { flag_ = value; }
  ~FlagGuard() { flag_ = before_; }
  FlagGuard(const FlagGuard&) = delete;
  FlagGuard& operator=(const FlagGuard&) = delete;

 private:
  bool& flag_;
  bool before_;
};

/// The default generators that code on one device may draw from.
class RandomState {
 public:
  explicit RandomState(const at::Device& device) {
    generators_.push_back(at::globalContext().defaultGenerator(at::kCPU));
    if (!device.is_cpu()) generators_.push_back(at::globalContext().defaultGenerator(device));
    for (at::Generator& generator : generators_) {
      const std::scoped_lock lock(generator.mutex());
      states_.push_back(generator.get_state());
    }
  }
  void restore() {
    for (std::size_t i = 0; i < generators_.size(); ++i) {
      const std::scoped_lock lock(generators_[i].mutex());
      generators_[i].set_state(states_[i]);
    }
  }
  [[nodiscard]] bool equals(const RandomState& other) const {
    for (std::size_t i = 0; i < states_.size(); ++i)
      if (!at::equal(states_[i], other.states_[i])) return false;
    return true;
  }

 private:
  std::vector<at::Generator> generators_;
  std::vector<at::Tensor> states_;
};

/// Lends the generators their earlier state; gives their own back at the end.
class ReplayRandom {
 public:
  ReplayRandom(RandomState& earlier, const at::Device& device) : now_(device) { earlier.restore(); }
  ~ReplayRandom() { now_.restore(); }
  ReplayRandom(const ReplayRandom&) = delete;
  ReplayRandom& operator=(const ReplayRandom&) = delete;

 private:
  RandomState now_;
};

/// What backward needs to run a segment again.
struct Kept : torch::CustomClassHolder {
  Segment segment;
  std::vector<at::Tensor> parameters;
  std::optional<RandomState> random;  ///< before the first run; only when it drew
  DropoutState dropout;               ///< likewise before it
  bool autocast = false;
  at::ScalarType autocast_dtype = at::kFloat;
};

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct RecomputeFunction : torch::autograd::Function<RecomputeFunction> {
  static at::Tensor forward(AutogradContext* context, at::TensorList inputs,
                            const c10::intrusive_ptr<Kept>& kept) {
    const at::Tensor& x = inputs[0];
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    context->save_for_backward({x});
    RandomState before(x.device());
    kept->dropout = dropout_state();
    const FlagGuard building(builds_graph, true);
    const at::AutoGradMode no_grad(false);
    at::Tensor y = kept->segment(x);
    if (!before.equals(RandomState(x.device()))) kept->random.emplace(std::move(before));
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto kept =
        c10::static_intrusive_pointer_cast<Kept>(context->saved_data["kept"].toCapsule());
    const bool needs_x = context->needs_input_grad(0);
    const at::Tensor x = context->get_saved_variables()[0].detach().set_requires_grad(needs_x);
    const at::Tensor y = replay(*kept, x);
    variable_list wanted;
    if (needs_x) wanted.push_back(x);
    wanted.insert(wanted.end(), kept->parameters.begin(), kept->parameters.end());
    variable_list found = torch::autograd::grad({y}, wanted, {gradients[0]},
                                                /*retain_graph=*/std::nullopt,
                                                /*create_graph=*/false, /*allow_unused=*/true);
    if (!needs_x) found.insert(found.begin(), at::Tensor());
    found.emplace_back();  // for the kept state, which is no variable
    return found;
  }

  static at::Tensor replay(Kept& kept, const at::Tensor& x) {
    const at::AutoGradMode grad(true);
    const FlagGuard second_run(replaying, true);
    const AutocastGuard autocast(x.device().type());
    autocast.set(kept.autocast, kept.autocast_dtype, /*cache_enabled=*/false);
    std::optional<ReplayRandom> random;
    if (kept.random) random.emplace(*kept.random, x.device());
    const DropoutScope dropout(kept.dropout);
    return kept.segment(x);
  }
};

}  // namespace

bool in_counted_pass() { return !replaying && (builds_graph || at::GradMode::is_enabled()); }

at::Tensor recompute_in_backward(const Segment& segment, const at::Tensor& x,
                                 std::initializer_list<torch::nn::Module*> owners) {
  TRIPHASE_CHECK(InternalError, !builds_graph && !replaying,
                 "a recomputed segment holds another one, which would run three times");
  std::vector<at::Tensor> parameters;
  for (const torch::nn::Module* owner : owners)
    for (const at::Tensor& parameter : owner->parameters())
      if (parameter.requires_grad()) parameters.push_back(parameter);
  if (!at::GradMode::is_enabled() || (parameters.empty() && !x.requires_grad())) return segment(x);
  auto kept = c10::make_intrusive<Kept>();
  kept->segment = segment;
  kept->parameters = parameters;
  const AutocastGuard autocast(x.device().type());
  kept->autocast = autocast.enabled();
  kept->autocast_dtype = autocast.dtype();
  std::vector<at::Tensor> inputs{x};
  inputs.insert(inputs.end(), parameters.begin(), parameters.end());
  return RecomputeFunction::apply(at::TensorList(inputs), kept);
}

}  // namespace triphase::models
