// SPDX-License-Identifier: Apache-2.0
#include "models/files/torch_pickle.hpp"

#include <gtest/gtest.h>

#include <deque>

#include "base/random.hpp"
#include "tests/models/models_test_support.hpp"
#include "tests/models/torch_file_builder.hpp"

namespace triphase::models {
namespace {

using test::Pickle;
using test::pickle_of;
using test::pushed;
using test::TensorSpec;
using triphase::test::expect_error;

/// Keeps the pickle: what is read points into it.
std::vector<PickledTensor> read(const std::string& bytes) {
  static std::deque<std::string> kept;
  kept.push_back(bytes);
  return read_torch_pickle(std::as_bytes(std::span(kept.back())), "x.pt");
}

void expect_refused(const std::string& bytes, std::initializer_list<std::string> words) {
  const auto action = [&] { (void)read_torch_pickle(std::as_bytes(std::span(bytes)), "x.pt"); };
  expect_error<CheckpointError>(action, ExitCode::kBadData, words);
  expect_error<CheckpointError>(
      action, ExitCode::kBadData,
      {"x.pt", "near byte", "Nothing of it was executed", "state_dict()"});
}

std::string body(const std::string& opcodes) { return Pickle().op(opcodes).bytes; }

TEST(TorchPickle, TensorsAreReadAsTheyAreDescribed) {
  const std::vector<TensorSpec> specs{{.name = "a.weight",
                                       .type = "BFloat16Storage",
                                       .key = "0",
                                       .elements = 6,
                                       .offset = 0,
                                       .sizes = {2, 3},
                                       .strides = {3, 1}},
                                      {.name = "count",
                                       .type = "LongStorage",
                                       .key = "17",
                                       .elements = 300,
                                       .offset = 299,
                                       .sizes = {},
                                       .strides = {}},
                                      {.name = "far",
                                       .type = "ByteStorage",
                                       .key = "x",
                                       .elements = 1LL << 40,
                                       .offset = 70'000,
                                       .sizes = {1LL << 33, 2},
                                       .strides = {2, 1}}};
  const std::vector<PickledTensor> found = read(pickle_of(specs));
  const std::vector<at::ScalarType> dtypes{at::kBFloat16, at::kLong, at::kByte};
  ASSERT_EQ(found.size(), specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    EXPECT_EQ(found[i].name, specs[i].name);
    EXPECT_EQ(found[i].dtype, dtypes[i]);
    EXPECT_EQ(found[i].storage, specs[i].key);
    EXPECT_EQ(found[i].storage_elements, specs[i].elements);
    EXPECT_EQ(found[i].offset, specs[i].offset);
    EXPECT_EQ(found[i].sizes, specs[i].sizes);
    EXPECT_EQ(found[i].strides, specs[i].strides);
  }
}

TEST(TorchPickle, EveryStorageTypeHasItsDtype) {
  const std::vector<std::pair<std::string, at::ScalarType>> types{
      {"Float", at::kFloat},   {"Half", at::kHalf}, {"BFloat16", at::kBFloat16},
      {"Double", at::kDouble}, {"Long", at::kLong}, {"Int", at::kInt},
      {"Short", at::kShort},   {"Char", at::kChar}, {"Byte", at::kByte},
      {"Bool", at::kBool}};
  for (const auto& [type, dtype] : types)
    EXPECT_EQ(read(pickle_of({{.type = type + "Storage"}}))[0].dtype, dtype);
  expect_refused(pickle_of({{.type = "ComplexFloatStorage"}}), {"torch.ComplexFloatStorage"});
  expect_refused(pickle_of({{.type = "UntypedStorage"}}), {"torch.UntypedStorage"});
}

TEST(TorchPickle, DictsMayBePlainOrWrappedOnceWithNotesBeside) {
  const std::string tensor = Pickle().text("a").op(pushed({})).bytes.substr(2);
  EXPECT_EQ(read(body("}(" + tensor + "u."))[0].name, "a");
  EXPECT_EQ(read(body("}" + tensor + "s."))[0].name, "a");
  const std::string notes = Pickle()
                                .text("epoch")
                                .integer(3)
                                .text("below")
                                .integer(-(1LL << 40))
                                .text("none")
                                .op("N")
                                .text("on")
                                .op("\x88")
                                .text("loss")
                                .op("G12345678")
                                .bytes.substr(2);
  for (const char* wrapper : {"state_dict", "model"}) {
    const std::string outer =
        "}(" + notes + Pickle().text(wrapper).op("}(" + tensor + "u").bytes.substr(2) + "u.";
    EXPECT_EQ(read(body(outer)).at(0).name, "a");
    // Two levels are one too many.
    const std::string twice =
        "}(" + Pickle().text(wrapper).op(outer.substr(0, outer.size() - 1)).bytes.substr(2) + "u.";
    expect_refused(body(twice), {"is no tensor"});
  }
  const std::string both =
      Pickle().text("model").op("}").text("state_dict").op("}").bytes.substr(2);
  expect_refused(body("}(" + both + "u."), {"both"});
  expect_refused(body("}(" + notes + "u."), {"'epoch'", "no tensor"});
  EXPECT_TRUE(read(body("}.")).empty());
}

TEST(TorchPickle, AttributesAreIgnoredAndParametersAreTheirTensors) {
  const std::string metadata = Pickle().op("}").text("_metadata").op("}").op("s").bytes.substr(2);
  const std::string tensor = Pickle().text("a").op(pushed({})).bytes.substr(2);
  EXPECT_EQ(read(body("}" + tensor + "s" + metadata + "b.")).size(), 1U);
  const std::string parameter = Pickle()
                                    .text("p")
                                    .global("torch._utils", "_rebuild_parameter")
                                    .op("(" + pushed({}) + "\x88")
                                    .global("collections", "OrderedDict")
                                    .op(")RtR")
                                    .bytes.substr(2);
  EXPECT_EQ(read(body("}" + parameter + "s.")).at(0).sizes, std::vector<std::int64_t>{2});
}

TEST(TorchPickle, MemoIndicesOfBothWidthsWork) {
  for (const std::string& put : {std::string("q\x07"), "r" + test::le<std::uint32_t>(7),
                                 "r" + test::le<std::uint32_t>(70'000)}) {
    const std::string index = put.substr(1);
    const std::string get = (index.size() == 1 ? "h" : "j") + index;
    const std::string bytes =
        Pickle().op("}(").text("a").op(pushed({}) + put).text("b").op(get + "u.").bytes;
    EXPECT_EQ(read(bytes).size(), 2U);
  }
}

TEST(TorchPickle, WhatWouldRunCodeIsRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> functions{
      {"os", "system"},
      {"posix", "system"},
      {"builtins", "eval"},
      {"builtins", "exec"},
      {"__builtin__", "eval"},
      {"subprocess", "Popen"},
      {"builtins", "getattr"},
      {"torch", "load"},
      {"torch.storage", "_load_from_bytes"},
      {"torch._utils", "_rebuild_tensor_v3"},
      {"collections", "Counter"},
      {"", ""},
      {"torch", "FloatStorageX"},
      {"collections.OrderedDict", ""}};
  for (const auto& [module, name] : functions)
    expect_refused(Pickle().global(module, name).op("(").text("touch executed").op("tR.").bytes,
                   {"'" + module + "." + name + "'"});
  expect_refused(body("(S'touch executed'\nios\nsystem\n."), {"opcode"});
  expect_refused(body("(ios\nsystem\n."), {"INST"});
  expect_refused(body("(o."), {"OBJ"});
  expect_refused(body("))\x81."), {"NEWOBJ"});
  expect_refused(Pickle().text("os").text("system").op("\x93.").bytes, {"STACK_GLOBAL"});
  expect_refused(body("]."), {"EMPTY_LIST"});
  expect_refused(body("\x82\x01."), {"EXT1"});
  expect_refused(body("Pid\n."), {"PERSID"});
  expect_refused(std::string("\x80\x04}."), {"protocol 4"});
  expect_refused(std::string("\x80\x05\x95") + std::string(8, '\0') + "}.", {"protocol 5"});
  // What is known may only be used for what it is.
  expect_refused(Pickle().global("torch", "FloatStorage").op(")R.").bytes, {"storage type"});
  expect_refused(Pickle().global("collections", "OrderedDict").op("())tR.").bytes,
                 {"OrderedDict of arguments"});
  expect_refused(body("))R."), {"no function"});
}

TEST(TorchPickle, MalformedPicklesAreRefused) {
  expect_refused("", {"cut short"});
  expect_refused(".", {"leaves 0"});
  expect_refused(body("}}."), {"leaves 2"});
  expect_refused(body("}.N"), {"after its end"});
  expect_refused(body("N."), {"no dict"});
  expect_refused(body("K\x01."), {"no dict"});
  for (const char* opcodes : {"R.", "Q.", "b.", "s.", "}s.", "}Ns.", "\x85.", "N\x86.", "(\x85.",
                              "NN\x87.", "(R.", "}(NNs.", "}((NNu."})
    EXPECT_THROW((void)read(body(opcodes)), CheckpointError) << opcodes;
  for (const char* opcodes : {"t.", "u.", "NNt.", "}NNu."})
    expect_refused(body(opcodes), {"no mark"});
  expect_refused(body("N(NNu."), {"no dict"});
  expect_refused(body("(NNu."), {"no dict"});
  expect_refused(body("}(Nu."), {"key without a value"});
  expect_refused(body("NNb."), {"no dict"});
  expect_refused(body("q\x01."), {"not there"});
  expect_refused(body("(q\x01."), {"not there"});
  expect_refused(body("h\x01."), {"never noted"});
  expect_refused(body("}r" + std::string(4, '\xFF') + "."), {"notes more"});
  expect_refused(body("}q\x05h\x04."), {"never noted"});
  expect_refused(body("\x8a\x09" + std::string(9, '\x01')), {"64 bits"});
  expect_refused(body("X" + test::le<std::uint32_t>(~0U) + "abc"), {"cut short"});
  expect_refused(body("c" + std::string(1000, 'a')), {"256 bytes"});
  expect_refused(body("}(NNu."), {"no text"});
  expect_refused(pickle_of({{.name = ""}}), {"name is empty"});
  expect_refused(pickle_of({{.name = std::string(5000, 'n')}}), {"longer than 4096"});
  expect_refused(pickle_of({{.name = "a\xFF"}}), {"no UTF-8"});
  expect_refused(pickle_of({{.name = std::string("a\0b", 3)}}), {"name is empty"});
  expect_refused(pickle_of({{.name = "a"}, {.name = "b"}, {.name = "a"}}), {"'a' twice"});
}

TEST(TorchPickle, TensorsThatCannotBeAreRefused) {
  expect_refused(pickle_of({{.elements = -1}}), {"no storage"});
  expect_refused(pickle_of({{.offset = -1}}), {"other arguments"});
  expect_refused(pickle_of({{.sizes = {2, 1}}}), {"other arguments"});
  expect_refused(pickle_of({{.sizes = {-2}}}), {"negative"});
  expect_refused(pickle_of({{.strides = {-1}}}), {"negative"});
  expect_refused(pickle_of({{.sizes = std::vector<std::int64_t>(17, 1),
                             .strides = std::vector<std::int64_t>(17, 1)}}),
                 {"16 dimensions"});
  const auto with_id = [](const std::string& tuple) { return body("}(" + tuple + "Qu."); };
  expect_refused(with_id("N"), {"no storage"});
  expect_refused(with_id("(NNNNNt"), {"no storage"});
  const std::vector<std::vector<std::string>> ids{
      {"module", "torch", "FloatStorage"},
      {"storage", "collections", "OrderedDict"},
      {"storage", "torch._utils", "_rebuild_tensor_v2"}};
  for (const auto& id : ids) {
    Pickle tuple;
    tuple.op("(").text(id[0]).global(id[1], id[2]).text("0").text("cpu").integer(1).op("t");
    expect_refused(with_id(tuple.bytes.substr(2)), {"no storage"});
  }
  expect_refused(Pickle().global("torch._utils", "_rebuild_tensor_v2").op("(NNNNNNtR.").bytes,
                 {"other arguments"});
  expect_refused(Pickle().global("torch._utils", "_rebuild_tensor_v2").op(")R.").bytes,
                 {"other arguments"});
  expect_refused(Pickle().global("torch._utils", "_rebuild_parameter").op("(NNNtR.").bytes,
                 {"no tensor"});
}

TEST(TorchPickle, WhatGrowsWithoutEndIsStopped) {
  constexpr std::size_t kMany = 3'000'000;
  expect_refused(body(std::string(kMany, 'N')), {"stacks more"});
  expect_refused(body(std::string(kMany, '(')), {"stacks more"});
  expect_refused(body(")" + std::string(kMany, '\x85')), {"tuples of more"});
  std::string pairs;
  for (std::size_t i = 0; i < 300'000; ++i) pairs += "NNs";
  expect_refused(body("}" + pairs + "."), {"dicts of more"});
  const std::string tensor = pushed({});
  std::string many;
  for (std::size_t i = 0; i < 40'000; ++i)
    many += Pickle().text(std::to_string(i)).op(tensor + "s").bytes.substr(2);
  expect_refused(body("}" + many + "."), {"more than 32768"});
  // A dict inside itself is no tensor, and ends there.
  expect_refused(Pickle()
                     .op("}q")
                     .op(std::string(1, '\0'))
                     .text("state_dict")
                     .op("h")
                     .op(std::string(1, '\0'))
                     .op("s.")
                     .bytes,
                 {"no tensor"});
}

TEST(TorchPickle, DamagedPicklesGiveTensorsOrACheckpointError) {
  const std::string original =
      pickle_of({{.name = "a"},
                 {.name = "b", .key = "1", .sizes = {1, 2}, .strides = {2, 1}},
                 {.name = "c"}});
  for (std::size_t length = 0; length < original.size(); ++length)
    EXPECT_THROW((void)read_torch_pickle(std::as_bytes(std::span(original)).first(length), "x.pt"),
                 CheckpointError)
        << length;
  KeyedRandom random{2027};
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = original;
    for (std::uint64_t changes = 1 + random.below(4); changes > 0; --changes) {
      const auto at = static_cast<std::size_t>(random.below(bytes.size()));
      if (random.chance(0.5))
        bytes[at] = static_cast<char>(random.below(256));
      else
        bytes.insert(at, 1, "()tuRQsb.}X\x85\x86\x87qhKJMNc"[random.below(21)]);
    }
    try {
      (void)read_torch_pickle(std::as_bytes(std::span(bytes)), "x.pt");
    } catch (const CheckpointError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 10'000);
}

}  // namespace
}  // namespace triphase::models
