/*
 * The verbs, each in the file of its name.
 */
#pragma once

#include "client/tools/verb.h"

extern const struct verb cmd_get;
extern const struct verb cmd_list;
extern const struct verb cmd_watch;
extern const struct verb cmd_status;
extern const struct verb cmd_accept;
extern const struct verb cmd_resync;
extern const struct verb cmd_exec;
extern const struct verb cmd_render;
extern const struct verb cmd_explain;
extern const struct verb cmd_check;
extern const struct verb cmd_history;
extern const struct verb cmd_diff;
extern const struct verb cmd_freeze;
extern const struct verb cmd_thaw;
extern const struct verb cmd_override;
extern const struct verb cmd_forget;
extern const struct verb cmd_dump;
