/*
 * The keys of a service as the text of a file. Knows formats, no files.
 */
#pragma once

#include "client/lib/consulcfg.h"
#include "client/tools/output.h"

enum rendering_format {
	RENDERING_ENV, /* NAME="value" lines, as systemd's EnvironmentFile= reads them */
	RENDERING_JSON, /* one object, as consulcfg-list --json prints it */
	RENDERING_PROPERTIES, /* of Java */
	RENDERING_DIR, /* a file for each key; not a text */
	RENDERING_TEMPLATE, /* a text with ${key} in it */
};

/* -EINVAL: not the name of a format. */
int rendering_format(const char *name, enum rendering_format *ret_format);

/*
 * Appends the text. 0; -ENOMEM; -EINVAL: what does not go into this format, `trouble` says why in
 * one line. `template` is of RENDERING_TEMPLATE.
 */
int rendering_make(enum rendering_format format, const char *template, const ccfg_view *view,
	struct output *output, char trouble[512]);
