// SPDX-License-Identifier: Apache-2.0
#include "launch/command_line.hpp"

#include "base/config_reader.hpp"
#include "base/error.hpp"

#include <boost/program_options.hpp>

#include <charconv>

namespace triphase::launch {
namespace po = boost::program_options;
namespace {

/// Options that every command has.
const std::vector<OptionSpec>& common_options() {
  static const std::vector<OptionSpec> options{
      {.name = "quiet", .help = "no progress, warnings only"},
      {.name = "help", .help = "this page"},
      {.name = "version", .help = "the program's version"},
  };
  return options;
}

std::vector<OptionSpec> all_options(const CommandSpec& spec) {
  std::vector<OptionSpec> options = spec.options;
  options.insert(options.end(), common_options().begin(), common_options().end());
  return options;
}

po::options_description describe(const std::vector<OptionSpec>& options) {
  po::options_description description;
  for (const OptionSpec& option : options) {
    if (option.value_name.empty())
      description.add_options()(option.name.c_str(), option.help.c_str());
    else
      description.add_options()(option.name.c_str(), po::value<std::vector<std::string>>(),
                                option.help.c_str());
  }
  return description;
}

ConfigError usage_error(const CommandSpec& spec, const std::string& message) {
  return ConfigError(
      str(message, ". See: triphase ", spec.name, spec.name.empty() ? "" : " ", "--help"));
}

/// Boost's parsed options, with its errors in our words.
po::parsed_options parse_words(const CommandSpec& spec, const std::vector<std::string>& words,
                               const std::vector<OptionSpec>& options,
                               const po::options_description& description) {
  po::positional_options_description positional;
  positional.add("", -1);  // positionals are read from the parsed list below
  try {
    return po::command_line_parser(words)
        .options(description)
        .style(po::command_line_style::unix_style & ~po::command_line_style::allow_guessing)
        .allow_unregistered()
        .run();
  } catch (const po::error& error) {
    std::vector<std::string> known;
    for (const OptionSpec& option : options) known.push_back("--" + option.name);
    throw usage_error(spec, error.what());
  }
}

[[noreturn]] void refuse_unknown(const CommandSpec& spec, const std::string& word,
                                 const std::vector<OptionSpec>& options) {
  if (word == "--set" || word.starts_with("--set=") || word == "--config" || word.starts_with("--config="))
    throw usage_error(spec, str("'", word.substr(0, word.find('=')), "' has nothing to act on: triphase ", spec.name,
                                " reads no configuration, only the options of its own"));
  std::vector<std::string> known;
  for (const OptionSpec& option : options) known.push_back("--" + option.name);
  const auto near = nearest_word(word, known);
  throw usage_error(spec, str("unknown option '", word, "'",
                              near ? str(" (did you mean '", *near, "'?)") : std::string()));
}

}  // namespace

std::string Arguments::text(const std::string& name, const std::string& absent) const {
  const auto found = values.find(name);
  return found == values.end() || found->second.empty() ? absent : found->second.back();
}

std::vector<std::string> Arguments::all(const std::string& name) const {
  const auto found = values.find(name);
  return found == values.end() ? std::vector<std::string>{} : found->second;
}

std::int64_t Arguments::integer(const std::string& name, std::int64_t absent, std::int64_t low,
                                std::int64_t high) const {
  if (!has(name)) return absent;
  const std::string word = text(name);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  TRIPHASE_CHECK(ConfigError,
                 error == std::errc() && end == word.data() + word.size() && value >= low && value <= high,
                 "--", name, " is '", word, "', expected a whole number from ", low, " to ", high, ".");
  return value;
}

double Arguments::number(const std::string& name, double absent, double low, double high) const {
  if (!has(name)) return absent;
  const std::string word = text(name);
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  TRIPHASE_CHECK(ConfigError,
                 error == std::errc() && end == word.data() + word.size() && value >= low && value <= high,
                 "--", name, " is '", word, "', expected a number from ", low, " to ", high, ".");
  return value;
}

Arguments parse_arguments(const CommandSpec& spec, const std::vector<std::string>& words) {
  const std::vector<OptionSpec> options = all_options(spec);
  const po::options_description description = describe(options);
  const po::parsed_options parsed = parse_words(spec, words, options, description);
  Arguments arguments;
  for (const po::option& option : parsed.options) {
    if (option.unregistered) refuse_unknown(spec, option.original_tokens.front(), options);
    if (option.string_key.empty() || option.position_key >= 0) {
      arguments.positionals.insert(arguments.positionals.end(), option.value.begin(), option.value.end());
      continue;
    }
    auto& list = arguments.values[option.string_key];
    list.insert(list.end(), option.value.begin(), option.value.end());
  }
  if (arguments.has("help") || arguments.has("version")) return arguments;
  for (const OptionSpec& option : options) {
    if (option.required && !arguments.has(option.name))
      throw usage_error(spec, str("--", option.name, " ", option.value_name, " is missing"));
    if (!option.repeated && arguments.all(option.name).size() > 1)
      throw usage_error(spec, str("--", option.name, " is given more than once"));
  }
  const auto count = static_cast<std::int64_t>(arguments.positionals.size());
  if (count < spec.min_positionals) throw usage_error(spec, str(spec.positional_name, " is missing"));
  if (count > spec.max_positionals)
    throw usage_error(spec, str("'", arguments.positionals.back(), "' is one argument too many"));
  return arguments;
}

std::string help_text(const CommandSpec& spec) {
  std::string text = str("triphase ", spec.name, ": ", spec.summary, "\n\nusage: triphase ", spec.name);
  if (!spec.positional_name.empty()) text += " " + spec.positional_name;
  for (const OptionSpec& option : spec.options) {
    const std::string word =
        "--" + option.name + (option.value_name.empty() ? "" : " " + option.value_name) +
        (option.repeated ? "..." : "");
    text += option.required ? " " + word : " [" + word + "]";
  }
  text += "\n\n";
  for (const OptionSpec& option : all_options(spec)) {
    std::string left = "  --" + option.name + (option.value_name.empty() ? "" : " " + option.value_name);
    left.resize(std::max<std::size_t>(left.size() + 2, 30), ' ');
    text += left + option.help + "\n";
  }
  text += "\nexample:\n" + spec.example + "\n";
  return text;
}

}  // namespace triphase::launch
