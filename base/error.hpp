// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace triphase {

/// How the program ends, on every rank. Source: sysexits.h for 64-77; 75, 76 and 78 as
/// docs/errors.md says.
enum class ExitCode : int {
  kDone = 0,
  kUsage = 64,               ///< usage or configuration
  kBadData = 65,             ///< malformed or mismatched input
  kMissingInput = 66,        ///< an input that is not there
  kInternal = 70,            ///< our bug
  kCommunication = 71,       ///< GPU, NCCL or MPI
  kCannotCreateOutput = 73,  ///< an output that cannot be made
  kIo = 74,                  ///< I/O error, disk full
  kRequeue = 75,             ///< stopped on request and checkpointed: start me again
  kDiverged = 76,            ///< numbers that are not finite beyond the allowed count
  kPermission = 77,          ///< the operating system said no
  kTimeout = 78,             ///< the watchdog's limit passed
};

/// Joins the parts into one message, as operator<< prints them. GCC 12 has no <format>.
template <class... Parts>
[[nodiscard]] std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// What every error of Triphase is. Libraries throw it; only launch/run_main.cpp catches and prints
/// it. The message says what is wrong, (why it matters), and what to do.
class Error : public std::exception {
 public:
  Error(std::string_view kind, std::string message, ExitCode exit_code)
      : kind_(kind), message_(std::move(message)), exit_code_(exit_code) {
    rebuild();
  }
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }
  [[nodiscard]] const std::string& kind() const noexcept { return kind_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  [[nodiscard]] const std::vector<std::string>& context() const noexcept { return context_; }
  [[nodiscard]] ExitCode exit_code() const noexcept { return exit_code_; }

  /// Adds one line such as "while reading sample 412"; then re-throw with `throw;`.
  void add_context(std::string line) {
    context_.push_back(std::move(line));
    rebuild();
  }

 private:
  void rebuild() {
    text_ = message_;
    for (const std::string& line : context_) text_ += "\n  " + line;
  }
  std::string kind_;
  std::string message_;
  std::vector<std::string> context_;
  std::string text_;
  ExitCode exit_code_;
};

/// Unknown key, wrong type, impossible combination, wrong command line.
class ConfigError : public Error {
 public:
  explicit ConfigError(std::string message, ExitCode code = ExitCode::kUsage)
      : Error("ConfigError", std::move(message), code) {}
};

/// A missing, malformed or mismatched file or cache (pass kMissingInput when it is not there).
class DataError : public Error {
 public:
  explicit DataError(std::string message, ExitCode code = ExitCode::kBadData)
      : Error("DataError", std::move(message), code) {}
};

/// MPI, NCCL, ranks that disagree, a timeout (pass kTimeout).
class CommError : public Error {
 public:
  explicit CommError(std::string message, ExitCode code = ExitCode::kCommunication)
      : Error("CommError", std::move(message), code) {}
};

/// An incomplete, damaged or mismatched checkpoint or weights file (pass kMissingInput when there
/// is none).
class CheckpointError : public Error {
 public:
  explicit CheckpointError(std::string message, ExitCode code = ExitCode::kBadData)
      : Error("CheckpointError", std::move(message), code) {}
};

/// Not finite beyond the allowed count.
class NumericsError : public Error {
 public:
  explicit NumericsError(std::string message, ExitCode code = ExitCode::kDiverged)
      : Error("NumericsError", std::move(message), code) {}
};

/// The operating system refused a file operation; the exit code follows errno (see io_error()).
class IoError : public Error {
 public:
  IoError(std::string message, ExitCode code) : Error("IoError", std::move(message), code) {}
};

/// A bug of ours.
class InternalError : public Error {
 public:
  explicit InternalError(std::string message, ExitCode code = ExitCode::kInternal)
      : Error("InternalError", std::move(message), code) {}
};

}  // namespace triphase

/// Throws Kind with the message built from the parts when the condition does not hold. Always on.
#define TRIPHASE_CHECK(Kind, condition, ...)                                \
  do {                                                                      \
    if (!(condition)) throw ::triphase::Kind(::triphase::str(__VA_ARGS__)); \
  } while (false)

/// Like TRIPHASE_CHECK with an exit code other than the kind's own.
#define TRIPHASE_CHECK_CODE(Kind, code, condition, ...)                                 \
  do {                                                                                  \
    if (!(condition))                                                                   \
      throw ::triphase::Kind(::triphase::str(__VA_ARGS__), ::triphase::ExitCode::code); \
  } while (false)

/// An inner-loop check: on in the dev and sanitizer builds only.
#ifdef TRIPHASE_DEBUG_CHECKS
#define TRIPHASE_DCHECK(condition, ...) TRIPHASE_CHECK(InternalError, condition, __VA_ARGS__)
#else
#define TRIPHASE_DCHECK(condition, ...) static_cast<void>(0)
#endif
