// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace triphase::test {

/// What is wrong with a document as XML: a tag that is not closed or closed in the wrong place, an
/// attribute without quotes, a bare '<' or '&'. "" when nothing is. Knows elements, attributes and
/// one DOCTYPE; no comments, no processing instructions.
[[nodiscard]] std::string xml_error(const std::string& text);

/// The text of a document without its tags, entities resolved, each run of text ending in a
/// newline.
[[nodiscard]] std::string xml_text(const std::string& text);

}  // namespace triphase::test
