/*
 * The daemon's end of the generation file (proto/genfile.h): hands out slots, raises them, beats.
 * Knows no service. The only writer.
 */
#pragma once

#include "proto/genfile.h"

struct genfile;

/*
 * Opens the file of this runtime directory again, or makes it, with room for n_slots; every slot
 * that was ever used is raised. 0 or -errno; -EADDRINUSE: another daemon has it. Where the
 * directory takes no file an anonymous one stands in (*ret_is_lasting false): clients that only
 * ever read then miss a restart.
 */
int genfile_new(const char *runtime_directory, uint32_t n_slots, struct genfile **ret_genfile,
	bool *ret_is_lasting);
struct genfile *genfile_free(struct genfile *genfile);

/* A read-only descriptor with an open file description of its own; the caller closes it. -errno. */
int genfile_open_fd(const struct genfile *genfile);

/* All of these take a NULL genfile, and GENFILE_NO_SLOT, as "nobody looks". */
uint32_t genfile_take_slot(struct genfile *genfile); /* GENFILE_NO_SLOT: all are taken */
void genfile_free_slot(struct genfile *genfile, uint32_t slot);
void genfile_raise(struct genfile *genfile, uint32_t slot);
uint64_t genfile_change(const struct genfile *genfile, uint32_t slot);
/* confirmed_age_usec: since the source last confirmed the content. */
void genfile_set(struct genfile *genfile, uint32_t slot, uint64_t confirmed_age_usec,
	uint64_t index, uint32_t state);

/* The daemon is alive; a client may believe it for alive_for_usec. */
void genfile_beat(struct genfile *genfile, uint64_t alive_for_usec);
