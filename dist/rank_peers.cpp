// SPDX-License-Identifier: Apache-2.0
#include "dist/rank_peers.hpp"

#include "base/error.hpp"
#include "base/hash.hpp"
#include "dist/node_group.hpp"

#include <ATen/ops/zeros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

namespace triphase::dist {
namespace {

/// As it travels.
struct Card {
  std::array<char, 112> host{};
  std::int64_t process = 0;
  std::int64_t descriptor = -1;
};
static_assert(sizeof(Card) == 128);

/// The letter that the system has for what a process does; 'X' when there is none. Source: proc(5).
char state_of(std::int64_t process) {
  std::ifstream file(str("/proc/", process, "/stat"));
  std::string line;
  std::getline(file, line);
  const std::size_t name_end = line.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= line.size() ? 'X' : line[name_end + 2];
}

std::string state_text(std::int64_t process) {
  switch (state_of(process)) {
    case 'R': return "is computing";
    case 'S': return "is waiting or sleeping";
    case 'D': return "waits for the system, usually for a disk or network file system";
    case 'T':
    case 't': return "is stopped (by a signal or a debugger)";
    default: return "is gone";
  }
}

}  // namespace

RankPeers::RankPeers(ProcessGroup& world, const SharedRecord& record) : host_(host_name()) {
  Card mine;
  std::memcpy(mine.host.data(), host_.data(), std::min(host_.size(), mine.host.size() - 1));
  mine.process = getpid();
  mine.descriptor = record.descriptor;
  at::Tensor card = at::zeros({1, static_cast<std::int64_t>(sizeof(Card))}, at::kByte);
  std::memcpy(card.data_ptr(), &mine, sizeof mine);
  const at::Tensor all = world.all_gather(card)->wait();
  const auto* bytes = static_cast<const std::byte*>(all.data_ptr());
  for (int rank = 0; rank < world.num_ranks(); ++rank) {
    Card one;
    std::memcpy(&one, bytes + static_cast<std::size_t>(rank) * sizeof one, sizeof one);
    peers_.push_back({one.host.data(), one.process, one.descriptor});
  }
  // Hosts and processes together are another job's never while this one lives.
  job_ = xxh3({reinterpret_cast<const char*>(bytes), all.nbytes()}) | 1U;
  record.record->set_job(job_);
}

const RankPeers::Peer* RankPeers::find_here(int rank) const {
  if (rank < 0 || static_cast<std::size_t>(rank) >= peers_.size()) return nullptr;
  const Peer& peer = peers_[static_cast<std::size_t>(rank)];
  return peer.host == host_ ? &peer : nullptr;
}

std::string RankPeers::describe(int rank) const {
  if (static_cast<std::size_t>(rank) >= peers_.size()) return str("rank ", rank);
  const Peer& peer = peers_[static_cast<std::size_t>(rank)];
  std::string text = str("rank ", rank, " on ", peer.host, ", process ", peer.process);
  if (find_here(rank) == nullptr) return text + " (another host: nothing more is known here)";
  text += ", " + state_text(peer.process);
  const auto record = open_record(peer.process, static_cast<int>(peer.descriptor), job_);
  if (record == nullptr) return text;
  const auto last = record->entries(1);
  return last.empty() ? text : text + "; its last collective: " + last.back().text(steady_seconds());
}

bool RankPeers::is_gone(int rank) const {
  const Peer* peer = find_here(rank);
  if (peer == nullptr) return false;
  const char state = state_of(peer->process);
  return state == 'X' || state == 'Z';
}

std::string RankPeers::record_text(int rank) const {
  const Peer* peer = find_here(rank);
  if (peer == nullptr) return {};
  const auto record = open_record(peer->process, static_cast<int>(peer->descriptor), job_);
  return record == nullptr ? std::string() : record->text();
}

}  // namespace triphase::dist
