// SPDX-License-Identifier: Apache-2.0
// Seconds for preparing and for tokenizing every line of a file, on one thread; started by
// compare.py.
//   bench_tokenizer TOKENIZER_FOLDER TEXT_FILE PASSES
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"
#include "data/tokenizer.hpp"

namespace {

using triphase::Json;
using triphase::data::Tokenizer;

constexpr std::int64_t kMaxBytes = std::int64_t{1} << 30;
constexpr std::int64_t kNoLimit = 1 << 30;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

template <class Action>
double seconds_of(Action action) {
  const auto begin = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Json measure(const char* folder, const char* file, int passes) {
  const Tokenizer tokenizer(folder);
  const std::vector<std::string> texts = lines_of(triphase::read_file(file, kMaxBytes));
  std::vector<std::string> prepared(texts.size());
  std::vector<std::vector<std::int64_t>> ids(texts.size());
  Json json{{"prepare_seconds", Json::array()}, {"encode_seconds", Json::array()}};
  for (int pass = -1; pass < passes; ++pass) {  // the first warms up
    const double prepare = seconds_of([&] {
      for (std::size_t i = 0; i < texts.size(); ++i)
        prepared[i] = triphase::data::sanitize_report(texts[i]);
    });
    const double encode = seconds_of([&] {
      for (std::size_t i = 0; i < texts.size(); ++i)
        ids[i] = tokenizer.encode(prepared[i], kNoLimit);
    });
    if (pass < 0) continue;
    json["prepare_seconds"].push_back(prepare);
    json["encode_seconds"].push_back(encode);
  }
  triphase::StreamingHash hash;
  std::size_t tokens = 0;
  for (const auto& each : ids) {
    hash.update(std::as_bytes(std::span(each)));
    tokens += each.size();
  }
  json["tokens"] = tokens;
  json["ids_hash"] = triphase::hex64(hash.digest());
  return json;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: bench_tokenizer TOKENIZER_FOLDER TEXT_FILE PASSES\n");
    return 64;
  }
  try {
    std::printf("%s\n", measure(argv[1], argv[2], std::atoi(argv[3])).dump().c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 70;
  }
}
