// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/headline.hpp"

#include "base/error.hpp"
#include "trainer/report/format.hpp"

#include <algorithm>
#include <map>
#include <vector>

namespace triphase::trainer {
namespace {

/// One run's main evaluation of the page's finding.
struct Result {
  const Json* run = nullptr;
  const Json* evaluation = nullptr;
  const Json* scores = nullptr;
  [[nodiscard]] double auc() const { return scores->at("auc").get<double>(); }
};

/// Results that may be compared: same data, same sites, same split, same number of studies.
using Group = std::vector<Result>;

std::vector<Group> comparable_groups(const Json& figures) {
  std::vector<std::pair<std::string, Group>> groups;
  if (!figures.at("finding").is_string()) return {};
  const std::string finding = figures.at("finding");
  for (const Json& run : figures.at("runs")) {
    const Json* evaluation = main_evaluation(run);
    if (evaluation == nullptr || !evaluation->at("findings").contains(finding)) continue;
    const Json& scores = evaluation->at("findings").at(finding);
    if (!scores.contains("auc") || !scores.at("auc").is_number()) continue;
    std::string key;
    for (const char* part : {"data_hash", "sites", "split", "n"})
      key += evaluation->contains(part) ? evaluation->at(part).dump() + "|" : "|";
    const auto known = std::find_if(groups.begin(), groups.end(),
                                    [&](const auto& group) { return group.first == key; });
    if (known == groups.end())
      groups.push_back({key, {{&run, evaluation, &scores}}});
    else
      known->second.push_back({&run, evaluation, &scores});
  }
  std::vector<Group> result;
  for (auto& [key, group] : groups) result.push_back(std::move(group));
  std::stable_sort(result.begin(), result.end(),
                   [](const Group& a, const Group& b) { return a.size() > b.size(); });
  return result;
}

std::string with_interval(const Result& result) {
  std::string text = score_text(result.scores->at("auc"));
  if (result.scores->contains("auc_ci95") && result.scores->at("auc_ci95").is_array())
    text += " " + interval_text(result.scores->at("auc_ci95"));
  return text;
}

/// "0.965 [0.944, 0.982] with full fine-tuning" or "0.949 to 0.965 over 3 runs of full
/// fine-tuning".
std::string method_clause(const std::vector<Result>& results) {
  std::string method = method_text(*results.front().run);
  const Json& trainable = results.front().run->at("trainable");
  if (results.front().run->at("method") == "peft" && trainable.is_object() &&
      trainable.at("percent").is_number())
    method += str(" (", decimal(trainable.at("percent").get<double>(), 2), " % of the parameters)");
  if (results.size() == 1) return with_interval(results.front()) + " with " + method;
  const auto [low, high] =
      std::minmax_element(results.begin(), results.end(),
                          [](const Result& a, const Result& b) { return a.auc() < b.auc(); });
  return str(decimal(low->auc(), 3), " to ", decimal(high->auc(), 3), " over ", results.size(),
             " runs with ", method);
}

std::string joined(const std::vector<std::string>& clauses) {
  std::string text;
  for (std::size_t i = 0; i < clauses.size(); ++i)
    text += (i == 0 ? "" : i + 1 == clauses.size() ? " and " : ", ") + clauses[i];
  return text;
}

std::string story(const Group& group, const std::string& finding) {
  std::map<std::string, std::vector<Result>> by_method;
  for (const Result& result : group)
    by_method[result.run->at("method").get<std::string>()].push_back(result);
  const Result& any = group.front();
  const std::string where = str("On ", count_text(any.evaluation->at("n")), " ",
                                any.evaluation->at("split").get<std::string>(), " studies of ",
                                sites_text(*any.evaluation), " (",
                                count_text(any.scores->at("n_positive")), " with ", finding, "), ");
  std::vector<std::string> adapted;
  for (const char* method : {"full", "peft"})
    if (by_method.contains(method)) adapted.push_back(method_clause(by_method.at(method)));
  if (adapted.empty())
    return where + "the model as it came tells " + finding + " with an AUC of " +
           with_interval(by_method.begin()->second.front()) + ".";
  if (!by_method.contains("none")) return where + "the AUC is " + joined(adapted) + ".";
  return where + "the AUC goes from " + with_interval(by_method.at("none").front()) +
         " without adaptation to " + joined(adapted) + ".";
}

std::string training_only(const Json& figures) {
  for (const Json& run : figures.at("runs")) {
    const Json& training = run.at("training");
    if (!training.is_object() || !training.at("loss").is_object()) continue;
    return str("No run has a scored finding yet; in run '", run.at("name").get<std::string>(),
               "' the loss went from ", decimal(training["loss"]["first"].get<double>(), 3), " to ",
               decimal(training["loss"]["last"].get<double>(), 3), ".");
  }
  return "No run has a scored finding yet.";
}

}  // namespace

const Json* main_evaluation(const Json& run) {
  return run.at("evaluations").empty() ? nullptr : &run.at("evaluations").front();
}

std::string sites_text(const Json& holder) {
  std::vector<std::string> sites;
  if (holder.contains("sites") && holder.at("sites").is_array())
    for (const Json& site : holder.at("sites"))
      if (site.is_string()) sites.push_back(site.get<std::string>());
  return sites.empty() ? "all sites" : joined(sites);
}

std::string method_text(const Json& run) {
  const std::string method = run.at("method");
  if (method == "full") return "full fine-tuning";
  return method == "peft" ? "PEFT" : "no adaptation";
}

std::string report_headline(const Json& figures) {
  const std::vector<Group> groups = comparable_groups(figures);
  if (groups.empty()) return training_only(figures);
  const std::string finding = figures.at("finding");
  std::string text = story(groups.front(), finding);
  for (std::size_t i = 1; i < groups.size() && i <= 2; ++i) {
    const Result& other = groups[i].front();
    text += str(" At ", sites_text(*other.evaluation), ", run '",
                other.run->at("name").get<std::string>(), "' reaches ", with_interval(other), ".");
  }
  return text;
}

}  // namespace triphase::trainer
