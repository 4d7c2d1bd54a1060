// SPDX-License-Identifier: Apache-2.0
#include "dist/runtime.hpp"
#include "tests/dist/backends.hpp"

namespace triphase::test {

std::vector<Backend> backends() {
  return {{"mpi", [](const RankBody& body) {
             dist::RuntimeOptions options;
             options.backend = "mpi";
             options.timeout_seconds = 30;
             dist::Runtime runtime(options);
             body(runtime.world());
           }}};
}

}  // namespace triphase::test
