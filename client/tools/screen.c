#include "client/tools/screen.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>

/* The other screen of the terminal, no cursor, no wrapping: what is too long is cut by the
 * terminal, which knows how wide characters are. */
#define OPEN "\033[?1049h\033[?25l\033[?7l"
#define CLOSE "\033[?7h\033[?25h\033[?1049l"

/* Whether OPEN was written last. Handlers change it. */
static volatile sig_atomic_t is_open;

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

/* The shell may have put us behind something else, with its own picture on the terminal. */
static bool is_in_front(void)
{
	return tcgetpgrp(STDOUT_FILENO) == getpgrp();
}

static void leave(void)
{
	if (is_open)
		write_all(CLOSE);
	is_open = false;
}

/* Also in the middle of a request to a daemon that does not answer. */
static void on_end(int signo)
{
	(void)signo;
	leave();
	_exit(0);
}

/* Ctrl-Z: the shell gets the terminal as it was. */
static void on_stop(int signo)
{
	const struct sigaction stop = { .sa_handler = SIG_DFL };
	struct sigaction ours;
	sigset_t set;
	int error = errno;

	leave();
	sigaction(signo, &stop, &ours);
	raise(signo);
	sigemptyset(&set);
	sigaddset(&set, signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL); /* stops here */
	sigaction(signo, &ours, NULL);
	errno = error;
}

/* Whoever had the terminal meanwhile has left it in a state of its own. */
static void on_continue(int signo)
{
	(void)signo; /* has interrupted poll() */
	is_open = false;
}

static void on_resize(int signo)
{
	(void)signo; /* has interrupted poll() */
}

static void handle(int signo, void (*handler)(int signo))
{
	const struct sigaction action = { .sa_handler = handler };

	sigaction(signo, &action, NULL);
}

void screen_open(void)
{
	handle(SIGINT, on_end);
	handle(SIGTERM, on_end);
	handle(SIGHUP, on_end);
	handle(SIGTSTP, on_stop);
	handle(SIGCONT, on_continue);
	handle(SIGWINCH, on_resize);
}

/* A stop waits until the picture is whole: the rest of it would go to the shell's screen. */
static int show(struct output *drawn)
{
	sigset_t stop, before;
	int r = 0;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTSTP);
	sigaddset(&stop, SIGCONT);
	sigprocmask(SIG_BLOCK, &stop, &before);
	if (is_in_front()) {
		bool was_open = is_open;

		is_open = true;
		if (!was_open)
			write_all(OPEN);
		r = output_flush(drawn, STDOUT_FILENO);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
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
	r = text->has_failed ? -ENOMEM : show(&drawn);
	output_done(&drawn);
	return r;
}

int screen_wait(unsigned ms)
{
	struct pollfd pfd = { .fd = STDOUT_FILENO };

	return poll(&pfd, 1, (int)ms) > 0 && (pfd.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0
		       ? -EPIPE
		       : 0;
}

void screen_close(void)
{
	leave();
}
