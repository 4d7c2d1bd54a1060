// SPDX-License-Identifier: Apache-2.0
#include "dist/supervisor.hpp"
#include "launch/run_main.hpp"

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  return triphase::dist::supervise([&](const triphase::dist::SharedRecord& record) {
    return triphase::launch::run_main(words, record);
  });
}
