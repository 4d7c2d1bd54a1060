// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace triphase {

/// Calls body(i) once for every i in [0, count) on LibTorch's own threads (at::set_num_threads), in
/// pieces of the same size. Matrix products in a body run on one thread, whatever the number of
/// threads, so that a body's bits do not depend on it. Thread-local state of LibTorch (gradient
/// mode, autocast) is not handed on. The first exception is thrown to the caller. Purely local.
void on_torch_threads(std::int64_t count, const std::function<void(std::int64_t)>& body);

}  // namespace triphase
