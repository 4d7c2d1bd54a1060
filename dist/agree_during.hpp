// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <functional>

namespace triphase::dist {

/// Long work of which every rank does its own part, with meetings on the way: a rank waits for the
/// others no longer than a round and a piece of the work take, however uneven the parts are, and an
/// error on one rank ends all at the next meeting.
/// @param round_seconds from one meeting to the next; together with the longest piece well below
///        the group's timeout
/// @param work calls the function that it is given after each piece, as often as it likes, from any
///        thread, and lets pass what that throws. Between these calls it uses the group for
///        nothing.
/// @throws AgreedError on all ranks when the work threw on any, as agree() does; CommError with
///         kTimeout when a rank does not come. Collective over group.
void agree_during(ProcessGroup& group, double round_seconds,
                  const std::function<void(const std::function<void()>& after_piece)>& work);

}  // namespace triphase::dist
