/*
 * The service manager: sockets it hands over, readiness, watchdog. The only door to libsystemd.
 * Everything here does nothing, successfully, when no manager is there.
 */
#pragma once

#include "proto/std.h"

/*
 * Number of descriptors handed over (from 3 upwards), 0, or -errno. Clears the variables. The
 * caller frees the names, one for each, and their array; NULL when there are none.
 */
int manager_listen_fds(char ***ret_names);
bool manager_is_listening_unix(int fd);

void manager_ready(const char *status);
void manager_reloading(void);
void manager_stopping(void);

/* Microseconds between two signs of life, 0: no watchdog wanted. */
uint64_t manager_watchdog_usec(void);
void manager_watchdog(void);
