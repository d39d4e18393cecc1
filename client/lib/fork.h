/*
 * Notices that this process is the child of a fork, without a system call where the kernel helps.
 */
#pragma once

#include "proto/std.h"

/* A number, not 0, that is another one after every fork. Any thread. */
uint64_t fork_epoch(void);
