// SPDX-License-Identifier: Apache-2.0
#include "dist/host_group.hpp"

#include "base/error.hpp"

namespace triphase::dist {
namespace {

/// One rank has nothing to move: HostGroup returns every input before it comes here.
class SelfTransport final : public Transport {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int num_ranks() const override { return 1; }
  [[nodiscard]] std::string backend() const override { return "self"; }
  void set_timeout(double /*seconds*/) override {}
  [[nodiscard]] bool is_broken() const override { return false; }
  void all_gather(const std::byte*, std::int64_t, std::byte*, std::int64_t) override { refuse(); }
  void all_to_all(const std::byte*, std::int64_t, std::int64_t, std::byte*) override { refuse(); }
  void broadcast(std::byte*, std::int64_t, int) override { refuse(); }
  void send_receive(const std::byte*, int, std::byte*, int, std::int64_t) override { refuse(); }
  std::unique_ptr<Transport> split(int /*color*/, int /*key*/) override { refuse(); }

 private:
  [[noreturn]] static void refuse() {
    throw InternalError("a group of one rank has nobody to talk to");
  }
};

}  // namespace

std::unique_ptr<ProcessGroup> make_self_group() {
  return make_host_group(std::make_unique<SelfTransport>());
}

}  // namespace triphase::dist
