// SPDX-License-Identifier: Apache-2.0
#include "tests/dist/backends.hpp"

namespace triphase::test {

std::vector<Backend> backends() {
  std::vector<Backend> all{{"self", [](const RankBody& body) { body(*dist::make_self_group()); }}};
  for (const int n : {1, 2, 3, 4, 5, 8})
    all.push_back(
        {"threads" + std::to_string(n), [n](const RankBody& body) { run_on_threads(n, body); }});
  return all;
}

}  // namespace triphase::test
