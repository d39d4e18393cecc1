/*
 * The directory source: files below a path as keys, for trying things out, for machines without
 * Consul and for volumes that Kubernetes mounts. Knows trees and when to scan; files are read by
 * directory-scan, changes are heard of through directory-notify.
 *
 * A tree's contents are replaced by those of a scan during which nothing changed and no file was
 * being written. An error, or a root that is away, changes nothing: the last good contents stay.
 * A single change is published about 5 ms after the file is closed or renamed: a burst of changes
 * is one answer (LIMIT_DIRECTORY_QUIET_USEC), and a scan counts when nothing contradicted it
 * (LIMIT_DIRECTORY_PROOF_USEC). A value that becomes empty takes LIMIT_DIRECTORY_EMPTIED_USEC. A
 * tree that never comes to rest is taken as it is every LIMIT_DIRECTORY_HOLD_USEC.
 */
#pragma once

#include "daemon/config.h"
#include "daemon/loop.h"
#include "daemon/tree.h"

/* Copies what it needs of config. 0, -ENOMEM. */
int directory_source_new(
	struct loop *loop, const struct config *config, struct source **ret_source);
struct source *directory_source_free(struct source *source); /* no feed may be left */

/* After a reload. Another path, or another way to read it, reads all trees anew. 0, -ENOMEM. */
int directory_source_reconfigure(struct source *source, const struct config *config);
