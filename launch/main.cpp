// SPDX-License-Identifier: Apache-2.0
#include "launch/run_main.hpp"

int main(int argc, char** argv) {
  return triphase::launch::run_main(std::vector<std::string>(argv + 1, argv + argc));
}
