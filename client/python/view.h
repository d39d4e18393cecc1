/*
 * View: one generation of a config, for reads that belong together.
 */
#pragma once

#include "client/python/reader.h"

extern PyTypeObject view_type;
