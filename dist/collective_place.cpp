// SPDX-License-Identifier: Apache-2.0
#include "dist/collective_place.hpp"

namespace triphase::dist {
namespace {

/// A scope reaches the collectives within it through any number of callers that know nothing of it.
thread_local const CollectivePlace* innermost = nullptr;

}  // namespace

CollectivePlace::CollectivePlace(const char* label, std::int64_t step) noexcept
    : label_(label),
      step_(step < 0 && innermost != nullptr ? innermost->step() : step),
      outer_(innermost) {
  innermost = this;
}

CollectivePlace::~CollectivePlace() { innermost = outer_; }

const CollectivePlace* CollectivePlace::current() noexcept { return innermost; }

}  // namespace triphase::dist
