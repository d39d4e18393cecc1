/*
 * A terminal as a whole: drawn again and again until somebody ends it by Ctrl-C, then as it was.
 * What is already there is overwritten, not cleared: nothing flickers.
 */
#pragma once

#include "client/tools/output.h"

/* Whether standard output is one, and colours are wanted there. */
bool screen_is_terminal(void);
bool screen_has_color(void);
unsigned screen_columns(void); /* 0: not known */

/* From here on SIGINT, SIGTERM and SIGHUP end the program, exit code 0, and the terminal is as it
 * was before; also while it is stopped by Ctrl-Z. Changes of its size end screen_wait(). */
void screen_open(void);
/* Of the text what fits; nothing while another program has the terminal. 0 or -errno. */
int screen_draw(struct output *text);
/* Also without screen_open(). -EPIPE: nobody reads standard output any more. */
int screen_wait(unsigned ms);
void screen_close(void);
