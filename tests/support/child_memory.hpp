// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

namespace triphase::test {

/// Runs `action` in a child process and returns the number it gives, or -1 when it throws or ends
/// otherwise.
[[nodiscard]] double in_child(const std::function<double()>& action);

/// How far `action`, in a child process, takes this process's resident memory above where it began,
/// in MiB; or -1 when it throws or ends otherwise. A child each time, since a process's highest
/// memory never falls. Not with sanitizers, which hold freed memory back.
[[nodiscard]] double peak_mib_of(const std::function<void()>& action);

}  // namespace triphase::test
