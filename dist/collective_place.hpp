// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace triphase::dist {

/// Says where in the program the collectives of this thread are, until it goes out of scope; the
/// innermost one counts. Shown when a rank does not come. Costs nothing worth counting.
class CollectivePlace {
 public:
  /// @param label a string literal such as "train: forward"
  /// @param step number of the training step, or -1
  explicit CollectivePlace(const char* label, std::int64_t step = -1) noexcept;
  ~CollectivePlace();
  CollectivePlace(const CollectivePlace&) = delete;
  CollectivePlace& operator=(const CollectivePlace&) = delete;

  [[nodiscard]] const char* label() const noexcept { return label_; }
  /// Its own, or that of the place around it.
  [[nodiscard]] std::int64_t step() const noexcept { return step_; }
  /// Of this thread; null outside of every place.
  [[nodiscard]] static const CollectivePlace* current() noexcept;

 private:
  const char* label_;
  std::int64_t step_;
  const CollectivePlace* outer_;
};

}  // namespace triphase::dist
