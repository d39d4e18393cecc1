/*
 * What `consulcfgd --check` looks at besides the words of the configuration: the files that it
 * names, and the groups of its sockets. A daemon that starts goes on without some of them and says
 * so; somebody who asks wants to know before.
 */
#pragma once

#include "daemon/config.h"

/* 0; -errno with one line about the first of them that cannot be used. The caller frees it. */
int config_check_files(const struct config *config, char **ret_message);
