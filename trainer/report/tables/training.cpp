// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/fields.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/tables.hpp"

#include <map>
#include <set>

namespace triphase::trainer {
namespace {

/// The value at the last logged step up to `step`.
Json value_at(const Json& points, std::int64_t step) {
  Json value;
  for (const Json& point : points)
    if (point[0].get<std::int64_t>() <= step) value = point[1];
  return value;
}

Json exact_value_at(const Json& points, std::int64_t step) {
  for (const Json& point : points)
    if (point[0].get<std::int64_t>() == step) return point[1];
  return nullptr;
}

/// One row a validation, and one for the last step.
DataTable training(const Json& figures) {
  using enum Shown;
  DataTable table("training", "Training at each validation and at the last logged step",
                  {{"run", "run"},
                   {"step", "step", kCount},
                   {"training_loss", "training loss, smoothed", kNumber},
                   {"validation_loss", "validation loss", kNumber},
                   {"validation_auc", "validation AUC", kScore},
                   {"temperature", "temperature", kNumber},
                   {"is_best", "best"}});
  const Json& finding = figures.at("finding");
  for (const Json& run : figures.at("runs")) {
    if (!run.at("is_trained").get<bool>()) continue;
    const Json& curves = run.at("curves");
    const Json aucs = finding.is_string() ? member(curves.at("validation_auc"),
                                                   finding.get<std::string>().c_str())
                                          : Json();
    std::set<std::int64_t> steps;
    for (const Json* points : {&curves.at("validation_loss"), &aucs})
      for (const Json& point : *points) steps.insert(point[0].get<std::int64_t>());
    if (!curves.at("loss").empty())
      steps.insert(curves.at("loss").back()[0].get<std::int64_t>());
    const Json best = member(member(run.at("training"), "best"), "step");
    for (const std::int64_t step : steps)
      table.add({run.at("name"), step, value_at(curves.at("loss_smooth"), step),
                 exact_value_at(curves.at("validation_loss"), step), exact_value_at(aucs, step),
                 value_at(curves.at("temperature"), step),
                 best.is_number() && best.get<std::int64_t>() == step});
  }
  return table;
}

/// The main finding's AUC by prompts, with its interval; nulls where there is none.
struct MainAuc {
  Json value;
  Json interval;
};
std::map<std::string, MainAuc> main_aucs(const Json& figures) {
  std::map<std::string, MainAuc> aucs;
  for (const Scored& scored : main_scored(figures, "prompts"))
    aucs[scored.name()] = {member(*scored.scores, "auc"), member(*scored.scores, "auc_ci95")};
  return aucs;
}

/// Of runs that began at two temperatures at least.
DataTable temperature(const Json& figures) {
  using enum Shown;
  std::vector<DataColumn> columns{{"run", "run"},
                                  {"method", "method"},
                                  {"is_learned", "learned"},
                                  {"seed", "seed", kCount},
                                  {"initial", "initial temperature", kNumber},
                                  {"final", "final temperature", kNumber}};
  add_score_columns(columns, "auc", "AUC");
  DataTable table("temperature", "AUC and final temperature by initial temperature", columns);
  std::set<double> initial;
  for (const Json& run : figures.at("runs"))
    if (const auto value = number(run.at("temperature"), "initial")) initial.insert(*value);
  if (initial.size() < 2) return table;
  auto aucs = main_aucs(figures);
  for (const Json& run : figures.at("runs")) {
    const Json& found = run.at("temperature");
    if (!found.is_object()) continue;
    const MainAuc& auc = aucs[run.at("name").get<std::string>()];
    table.add({run.at("name"), method_text(run), found.at("learnable"), run.at("seed"),
               found.at("initial"), found.at("final"), auc.value, low_end(auc.interval),
               high_end(auc.interval)});
  }
  return table;
}

DataTable cost(const Json& figures) {
  using enum Shown;
  DataTable table("cost", "What each run trained, how long it took and what it reduced",
                  {{"run", "run"},
                   {"method", "method"},
                   {"preset", "model"},
                   {"num_trainable", "trainable", kCount},
                   {"trainable_percent", "of the parameters", kPercent},
                   {"num_base_parameters", "parameters", kCount},
                   {"steps", "steps", kCount},
                   {"global_pairs", "pairs a step", kCount},
                   {"pairs_seen", "pairs seen", kCount},
                   {"num_ranks", "ranks", kCount},
                   {"bytes_reduced_per_step", "reduced a step and rank", kBytes},
                   {"seconds_per_step", "time a step", kSeconds},
                   {"pairs_per_second", "pairs a second", kNumber},
                   {"loss_first", "loss, first", kNumber},
                   {"loss_last", "loss, last", kNumber},
                   {"temperature_first", "temperature, first", kNumber},
                   {"temperature_last", "temperature, last", kNumber},
                   {"best_step", "best step", kCount},
                   {"best_by", "best by"},
                   {"lowest_validation_loss", "lowest validation loss", kScore},
                   {"lowest_validation_loss_step", "at step", kCount}});
  for (const Json& run : figures.at("runs")) {
    if (!run.at("is_trained").get<bool>()) continue;
    const Json& trainable = run.at("trainable");
    const Json& cost = run.at("cost");
    const Json& training = run.at("training");
    const Json& lowest = training.at("best_validation");
    table.add({run.at("name"), method_text(run), run.at("preset"),
               member(trainable, "num_trainable"), member(trainable, "percent"),
               member(trainable, "num_base_parameters"), cost.at("steps"), run.at("global_pairs"),
               cost.at("pairs_seen"), run.at("environment").at("num_ranks"),
               cost.at("bytes_reduced_per_step"), cost.at("seconds_per_step"),
               cost.at("pairs_per_second"), member(training.at("loss"), "first"),
               member(training.at("loss"), "last"), member(training.at("temperature"), "first"),
               member(training.at("temperature"), "last"), member(training.at("best"), "step"),
               member(training.at("best"), "by"), member(lowest, "loss"), member(lowest, "step")});
  }
  return table;
}

DataTable step_time(const Json& figures) {
  using enum Shown;
  DataTable table("step_time", "Where a step's time goes, medians over logged steps",
                  {{"run", "run"},
                   {"data", "data", kSeconds},
                   {"forward", "forward", kSeconds},
                   {"loss", "loss", kSeconds},
                   {"backward", "backward", kSeconds},
                   {"reduce_exposed", "reduction", kSeconds},
                   {"optimizer", "optimizer", kSeconds},
                   {"total", "a step", kSeconds}});
  for (const Json& run : figures.at("runs")) {
    const Json& cost = run.at("cost");
    if (!cost.is_object() || !cost.at("seconds_per_step").is_number()) continue;
    std::vector<Json> row{run.at("name")};
    for (const char* phase :
         {"data", "forward", "loss", "backward", "reduce_exposed", "optimizer"})
      row.push_back(member(cost.at("seconds"), phase));
    row.push_back(cost.at("seconds_per_step"));
    table.add(std::move(row));
  }
  return table;
}

/// Of runs of two percentages at least.
DataTable trainable(const Json& figures) {
  using enum Shown;
  std::vector<DataColumn> columns{{"run", "run"},
                                  {"method", "method"},
                                  {"num_trainable", "trainable", kCount},
                                  {"percent", "of the parameters", kPercent}};
  add_score_columns(columns, "auc", "AUC");
  DataTable table("trainable", "Trained parameters and AUC", columns);
  auto aucs = main_aucs(figures);
  std::set<double> percents;
  for (const Json& run : figures.at("runs")) {
    const auto percent = number(run.at("trainable"), "percent");
    if (!percent) continue;
    percents.insert(*percent);
    const MainAuc& auc = aucs[run.at("name").get<std::string>()];
    table.add({run.at("name"), method_text(run), run.at("trainable").at("num_trainable"), *percent,
               auc.value, low_end(auc.interval), high_end(auc.interval)});
  }
  return percents.size() < 2 ? DataTable("trainable", "", columns) : table;
}

}  // namespace

std::vector<DataTable> training_tables(const Json& figures) {
  return {training(figures), temperature(figures), cost(figures), step_time(figures),
          trainable(figures)};
}

}  // namespace triphase::trainer
