#include "client/tools/screen.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>

/* The other screen of the terminal, no cursor, no wrapping: what is too long is cut by the
 * terminal, which knows how wide characters are. */
#define OPEN "\033[?1049h\033[?25l\033[?7l"
#define CLOSE "\033[?7h\033[?25h\033[?1049l"

static void write_all(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		return;
}

static struct winsize size_of_terminal(void)
{
	struct winsize size = { 0 };

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		size = (struct winsize){ 0 };
	return size;
}

bool screen_is_terminal(void)
{
	return isatty(STDOUT_FILENO);
}

bool screen_has_color(void)
{
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

	return screen_is_terminal() && term && !std_streq(term, "dumb") &&
	       !(no_color && no_color[0] != '\0');
}

unsigned screen_columns(void)
{
	return size_of_terminal().ws_col;
}

/* Also in the middle of a request to a daemon that does not answer. */
static void on_end(int signo)
{
	(void)signo;
	write_all(CLOSE);
	_exit(0);
}

static void on_resize(int signo)
{
	(void)signo; /* has interrupted poll() */
}

void screen_open(void)
{
	const struct sigaction end = { .sa_handler = on_end };
	const struct sigaction resize = { .sa_handler = on_resize };

	sigaction(SIGINT, &end, NULL);
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGHUP, &end, NULL);
	sigaction(SIGWINCH, &resize, NULL);
	write_all(OPEN);
}

int screen_draw(struct output *text)
{
	unsigned rows = size_of_terminal().ws_row, row = 0;
	struct output drawn = { 0 };
	const char *at = text->data, *end = text->data + text->len;
	int r;

	output_text(&drawn, "\033[H");
	while (at < end && (rows == 0 || row < rows)) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t len = newline ? (size_t)(newline - at) : (size_t)(end - at);

		output_text(&drawn, row++ > 0 ? "\r\n" : "");
		output_bytes(&drawn, at, len);
		output_text(&drawn, "\033[K");
		at += len + (newline != NULL);
	}
	output_text(&drawn, "\033[J");
	r = text->has_failed ? -ENOMEM : output_flush(&drawn, STDOUT_FILENO);
	output_done(&drawn);
	return r;
}

void screen_wait(unsigned ms)
{
	poll(NULL, 0, (int)ms);
}

void screen_close(void)
{
	write_all(CLOSE);
}
