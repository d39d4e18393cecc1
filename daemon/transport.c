/*
 * The only door to libcurl. Invariant: line() and body() are called between enter() and leave()
 * only, and nothing that ends a request happens there.
 */
#include "daemon/transport.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/socket.h>

#include <curl/curl.h>

#include "daemon/file-stamp.h"
#include "daemon/list.h"
#include "proto/limits.h"

#define BUFFER_BYTES 262144L /* read from a socket at a time */
#define KEEPALIVE_IDLE_S 30L
#define KEEPALIVE_INTERVAL_S 10L

struct transport {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timer;
	const struct transport_owner *fns;
	void *owner;
	char *ca_file, *ca_path, *cert_file, *key_file;
	bool verify;
	struct file_stamp ca_stamp; /* of the one file that libcurl keeps what it read of */
	uint64_t ca_changed_at; /* loop_now() time, 0: never */
	unsigned n_connections;
	bool is_multiplexed;
	struct list sockets; /* transport_socket::link */
};

struct transport_socket { /* one that libcurl wants watched */
	struct list link; /* transport::sockets */
	struct transport *transport;
	curl_socket_t fd;
	struct loop_io *io;
};

struct transport_get {
	struct transport *transport;
	CURL *easy;
	bool is_tls, is_started;
	struct curl_slist *headers, *connect_to;
	void *userdata;
	char words[CURL_ERROR_SIZE]; /* libcurl's, on what went wrong */
};

static const struct {
	CURLcode code;
	int error;
	const char *message; /* NULL: libcurl's words */
} failures[] = {
	{ CURLE_COULDNT_RESOLVE_HOST, -EHOSTUNREACH, "no such host" },
	{ CURLE_COULDNT_CONNECT, -ECONNREFUSED, "no connection" },
	{ CURLE_OPERATION_TIMEDOUT, -ETIMEDOUT, "no connection in time" },
	{ CURLE_GOT_NOTHING, -ECONNRESET, "the connection was closed without an answer" },
	{ CURLE_SEND_ERROR, -ECONNRESET, "the connection broke" },
	{ CURLE_RECV_ERROR, -ECONNRESET, "the connection broke" },
	{ CURLE_PARTIAL_FILE, -EBADMSG, "an answer that was cut off" },
	{ CURLE_WEIRD_SERVER_REPLY, -EBADMSG, "no HTTP" },
	{ CURLE_UNSUPPORTED_PROTOCOL, -EBADMSG, "no HTTP" },
	{ CURLE_HTTP2, -EBADMSG, "broken HTTP/2" },
	{ CURLE_HTTP2_STREAM, -EBADMSG, "broken HTTP/2" },
	{ CURLE_BAD_CONTENT_ENCODING, -EBADMSG, "damaged encoding" },
	{ CURLE_WRITE_ERROR, -EBADMSG, "an answer that cannot be taken" },
	{ CURLE_OUT_OF_MEMORY, -ENOMEM, "out of memory" },
	{ CURLE_URL_MALFORMAT, -EINVAL, "this is no address" },
	{ CURLE_SSL_CONNECT_ERROR, -EPROTO, NULL },
	{ CURLE_PEER_FAILED_VERIFICATION, -EPROTO, NULL },
	{ CURLE_SSL_CERTPROBLEM, -EPROTO, NULL },
	{ CURLE_SSL_CACERT_BADFILE, -EPROTO, NULL },
	{ CURLE_SSL_CIPHER, -EPROTO, NULL },
	{ CURLE_SSL_ISSUER_ERROR, -EPROTO, NULL },
	{ CURLE_SSL_INVALIDCERTSTATUS, -EPROTO, NULL },
};

static int explain_connect(CURL *easy, char *text, size_t size)
{
	long error = 0;

	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &error);
	if (error <= 0)
		return 0;
	snprintf(text, size, "%s", strerror((int)error));
	text[0] = (char)tolower((unsigned char)text[0]);
	return -(int)error;
}

/* The error of http.h for a libcurl's; the message goes to get->words. */
static int explain(struct transport_get *get, CURLcode code)
{
	int r = code == CURLE_COULDNT_CONNECT
			? explain_connect(get->easy, get->words, sizeof(get->words))
			: 0;

	if (r < 0)
		return r;
	if (get->words[0] == '\0')
		snprintf(get->words, sizeof(get->words), "%s", curl_easy_strerror(code));
	get->words[strcspn(get->words, "\r\n")] = '\0'; /* it may be several lines */
	/* In TLS 1.3 our handshake is over when the server says what it has against our
	 * certificate. */
	if (strstr(get->words, " alert "))
		return -EPROTO;
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		if (failures[i].code != code)
			continue;
		if (failures[i].message)
			snprintf(get->words, sizeof(get->words), "%s", failures[i].message);
		return failures[i].error;
	}
	return -EIO;
}

static void collect_ended(struct transport *transport)
{
	CURLMsg *message;
	int n;

	while ((message = curl_multi_info_read(transport->multi, &n))) {
		CURLcode code = message->data.result;
		CURL *easy = message->easy_handle;
		struct transport_get *get;
		long version = 0;
		int r;

		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&get);
		curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version);
		if (version != 0)
			transport->is_multiplexed = version == CURL_HTTP_VERSION_2_0;
		r = code == CURLE_OK ? 0 : explain(get, code);
		transport->fns->end(r, get->words, get->userdata);
	}
}

static void run(struct transport *transport, curl_socket_t fd, int mask)
{
	int n_running;

	transport->fns->enter(transport->owner);
	curl_multi_socket_action(transport->multi, fd, mask, &n_running);
	transport->fns->leave(transport->owner);
	collect_ended(transport);
}

static void on_io(unsigned events, void *userdata)
{
	struct transport_socket *sock = userdata;

	run(sock->transport, sock->fd,
		(events & LOOP_READ ? CURL_CSELECT_IN : 0) |
			(events & LOOP_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(void *userdata)
{
	run(userdata, CURL_SOCKET_TIMEOUT, 0);
}

static size_t on_line(char *data, size_t size, size_t n, void *userdata)
{
	struct transport_get *get = userdata;

	return get->transport->fns->line(data, size * n, get->userdata) < 0 ? 0 : size * n;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
	struct transport_get *get = userdata;
	int r = get->transport->fns->body(data, size * n, get->userdata);

	if (r < 0)
		return 0;
	return r > 0 ? CURL_WRITEFUNC_PAUSE : size * n;
}

static void socket_free(struct transport_socket *sock)
{
	list_unlink(&sock->link);
	loop_io_free(sock->io);
	free(sock);
}

static int socket_new(
	struct transport *transport, curl_socket_t fd, struct transport_socket **ret_socket)
{
	struct transport_socket *sock = calloc(1, sizeof(*sock));
	int r;

	if (!sock)
		return -ENOMEM;
	sock->transport = transport;
	sock->fd = fd;
	r = loop_io_new(transport->loop, fd, on_io, sock, &sock->io);
	if (r < 0) {
		free(sock);
		return r;
	}
	list_append(&transport->sockets, &sock->link);
	*ret_socket = sock;
	return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *assigned)
{
	struct transport *transport = userdata;
	struct transport_socket *sock = assigned;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		curl_multi_assign(transport->multi, fd, NULL);
		if (sock)
			socket_free(sock);
		return 0;
	}
	if (!sock) {
		if (socket_new(transport, fd, &sock) < 0)
			return -1;
		curl_multi_assign(transport->multi, fd, sock);
	}
	return loop_io_want(sock->io, (what & CURL_POLL_IN ? LOOP_READ : 0) |
					      (what & CURL_POLL_OUT ? LOOP_WRITE : 0)) < 0
		       ? -1
		       : 0;
}

static int on_timer_change(CURLM *multi, long timeout_ms, void *userdata)
{
	struct transport *transport = userdata;

	(void)multi;
	if (timeout_ms < 0)
		loop_timer_disarm(transport->timer);
	else
		loop_timer_arm(transport->timer, (uint64_t)timeout_ms * USEC_PER_MSEC);
	return 0;
}

static curl_socket_t on_open(void *userdata, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct transport *transport = userdata;
	int fd;

	(void)purpose;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	transport->n_connections++;
	return fd;
}

static int on_close(void *userdata, curl_socket_t fd)
{
	struct transport *transport = userdata;

	transport->n_connections--;
	return close(fd);
}

/* The one file of authorities that there is, or NULL: libcurl parses it once and keeps that. */
static const char *kept_ca_file(const struct transport *transport)
{
	if (transport->ca_path)
		return NULL;
	return transport->ca_file ? transport->ca_file : curl_version_info(CURLVERSION_NOW)->cainfo;
}

/*
 * How old may be what libcurl keeps, in seconds: not as old as the file's last change. Parsing the
 * system's authorities takes 20 ms, and all of the loop.
 */
static long ca_max_age(struct transport *transport)
{
	struct file_stamp now = file_stamp_at(kept_ca_file(transport));

	if (!file_stamp_same(&now, &transport->ca_stamp)) {
		transport->ca_stamp = now;
		transport->ca_changed_at = loop_now();
	}
	if (transport->ca_changed_at == 0)
		return -1; /* any */
	return (long)MIN(
		(loop_now() - transport->ca_changed_at) / USEC_PER_SEC, (uint64_t)INT32_MAX);
}

static int copy_text(const char *text, char **ret_copy)
{
	*ret_copy = text ? strdup(text) : NULL;
	return text && !*ret_copy ? -ENOMEM : 0;
}

static int new_multi(struct transport *transport)
{
	transport->multi = curl_multi_init();
	if (!transport->multi)
		return -ENOMEM;
	curl_multi_setopt(transport->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(transport->multi, CURLMOPT_SOCKETDATA, transport);
	curl_multi_setopt(transport->multi, CURLMOPT_TIMERFUNCTION, on_timer_change);
	curl_multi_setopt(transport->multi, CURLMOPT_TIMERDATA, transport);
	curl_multi_setopt(transport->multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
	curl_multi_setopt(
		transport->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)LIMIT_HTTP_STREAMS);
	return 0;
}

int transport_new(struct loop *loop, const struct http_settings *settings,
	const struct transport_owner *fns, void *owner, struct transport **ret_transport)
{
	struct transport *transport;

	/* libcurl writes TLS secrets where this points to; it is read by the first init. */
	unsetenv("SSLKEYLOGFILE");
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	transport = calloc(1, sizeof(*transport));
	if (!transport) {
		curl_global_cleanup();
		return -ENOMEM;
	}
	transport->loop = loop;
	transport->fns = fns;
	transport->owner = owner;
	transport->verify = settings->verify;
	list_init(&transport->sockets);
	if (copy_text(settings->ca_file, &transport->ca_file) < 0 ||
		copy_text(settings->ca_path, &transport->ca_path) < 0 ||
		copy_text(settings->cert_file, &transport->cert_file) < 0 ||
		copy_text(settings->key_file, &transport->key_file) < 0 ||
		loop_timer_new(loop, on_timer, transport, &transport->timer) < 0 ||
		new_multi(transport) < 0) {
		transport_free(transport);
		return -ENOMEM;
	}
	transport->ca_stamp = file_stamp_at(kept_ca_file(transport));
	transport_set_max_connections(transport, settings->max_connections);
	*ret_transport = transport;
	return 0;
}

struct transport *transport_free(struct transport *transport)
{
	if (!transport)
		return NULL;
	if (transport->multi)
		curl_multi_cleanup(transport->multi);
	while (!list_is_empty(&transport->sockets))
		socket_free(LIST_ENTRY(transport->sockets.next, struct transport_socket, link));
	loop_timer_free(transport->timer);
	free(transport->ca_file);
	free(transport->ca_path);
	free(transport->cert_file);
	free(transport->key_file);
	free(transport);
	curl_global_cleanup();
	return NULL;
}

void transport_set_max_connections(struct transport *transport, unsigned n)
{
	curl_multi_setopt(transport->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)n);
	curl_multi_setopt(transport->multi, CURLMOPT_MAXCONNECTS, (long)n);
}

unsigned transport_n_connections(const struct transport *transport)
{
	return transport->n_connections;
}

bool transport_is_multiplexed(const struct transport *transport)
{
	return transport->is_multiplexed;
}

void transport_set_multiplexed(struct transport *transport, bool is_multiplexed)
{
	transport->is_multiplexed = is_multiplexed;
}

static int add_header(struct transport_get *get, const char *name, const char *value)
{
	struct curl_slist *headers;
	char *line;
	int len;

	if (!value)
		return 0;
	len = asprintf(&line, "%s: %s", name, value);
	if (len < 0)
		return -ENOMEM;
	headers = curl_slist_append(get->headers, line);
	explicit_bzero(line, (size_t)len);
	free(line);
	if (!headers)
		return -ENOMEM;
	get->headers = headers;
	return 0;
}

#define SET(option, value) (code = code != CURLE_OK ? code : curl_easy_setopt(easy, option, value))

static CURLcode set_connection(const struct transport_get *get, const struct http_get *wanted)
{
	const struct transport *transport = get->transport;
	CURLcode code = CURLE_OK;
	CURL *easy = get->easy;

	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, ""); /* not even that of the environment */
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* do not wait for a resolver that hangs */
	SET(CURLOPT_DNS_CACHE_TIMEOUT, (long)(LIMIT_HTTP_DNS_USEC / USEC_PER_SEC));
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(LIMIT_HTTP_CONNECT_USEC / USEC_PER_MSEC));
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	SET(CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
	SET(CURLOPT_OPENSOCKETDATA, (void *)(uintptr_t)transport);
	SET(CURLOPT_CLOSESOCKETFUNCTION, on_close);
	SET(CURLOPT_CLOSESOCKETDATA, (void *)(uintptr_t)transport);
	if (wanted->unix_path)
		SET(CURLOPT_UNIX_SOCKET_PATH, wanted->unix_path);
	if (get->connect_to)
		SET(CURLOPT_CONNECT_TO, get->connect_to);
	return code;
}

static CURLcode set_tls(const struct transport_get *get)
{
	const struct transport *transport = get->transport;
	CURLcode code = CURLE_OK;
	CURL *easy = get->easy;

	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_PIPEWAIT, 1L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, transport->verify ? 1L : 0L);
	SET(CURLOPT_SSL_VERIFYHOST, transport->verify ? 2L : 0L);
	/* A session that is resumed is one with the certificates of before. */
	SET(CURLOPT_SSL_SESSIONID_CACHE, 0L);
	/* One of ours replaces all of the system's; of those the file will do: libcurl keeps what
	 * it read of a file, and reads a folder again for each connection. */
	if (transport->ca_file || transport->ca_path) {
		SET(CURLOPT_CAINFO, transport->ca_file);
		SET(CURLOPT_CAPATH, transport->ca_path);
	} else if (curl_version_info(CURLVERSION_NOW)->cainfo) {
		SET(CURLOPT_CAPATH, NULL);
	}
	if (transport->cert_file)
		SET(CURLOPT_SSLCERT, transport->cert_file);
	if (transport->key_file)
		SET(CURLOPT_SSLKEY, transport->key_file);
	return code;
}

static CURLcode set_exchange(struct transport_get *get, const struct http_get *wanted)
{
	CURLcode code = CURLE_OK;
	CURL *easy = get->easy;

	SET(CURLOPT_URL, wanted->url);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_HTTPHEADER, get->headers);
	SET(CURLOPT_USERAGENT, "consulcfgd/" CONSULCFGD_VERSION);
	/* Inflated here, in blocks, see gunzip.h. */
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
	SET(CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	SET(CURLOPT_FORBID_REUSE, wanted->closes ? 1L : 0L);
	SET(CURLOPT_PRIVATE, get);
	SET(CURLOPT_ERRORBUFFER, get->words);
	SET(CURLOPT_HEADERFUNCTION, on_line);
	SET(CURLOPT_HEADERDATA, get);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, get);
	if (wanted->auth) {
		SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(CURLOPT_USERPWD, wanted->auth);
	}
	return code;
}

static int prepare(struct transport_get *get, const struct http_get *wanted)
{
	CURLcode code;

	get->easy = curl_easy_init();
	if (!get->easy || add_header(get, "X-Consul-Token", wanted->token) < 0 ||
		add_header(get, "Accept-Encoding", wanted->accept_gzip ? "gzip" : NULL) < 0)
		return -ENOMEM;
	if (wanted->connect_to) {
		get->connect_to = curl_slist_append(NULL, wanted->connect_to);
		if (!get->connect_to)
			return -ENOMEM;
	}
	get->is_tls = strncmp(wanted->url, "https:", 6) == 0;
	code = set_connection(get, wanted);
	if (code == CURLE_OK && get->is_tls)
		code = set_tls(get);
	if (code == CURLE_OK)
		code = set_exchange(get, wanted);
	return code == CURLE_OK ? 0 : code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
}

int transport_get_new(struct transport *transport, const struct http_get *wanted, void *userdata,
	struct transport_get **ret_get)
{
	struct transport_get *get = calloc(1, sizeof(*get));
	int r;

	if (!get)
		return -ENOMEM;
	get->transport = transport;
	get->userdata = userdata;
	r = prepare(get, wanted);
	if (r < 0) {
		transport_get_free(get);
		return r;
	}
	*ret_get = get;
	return 0;
}

int transport_get_start(struct transport_get *get)
{
	if (get->is_tls)
		curl_easy_setopt(get->easy, CURLOPT_CA_CACHE_TIMEOUT, ca_max_age(get->transport));
	get->is_started = curl_multi_add_handle(get->transport->multi, get->easy) == CURLM_OK;
	return get->is_started ? 0 : -ENOMEM;
}

void transport_get_resume(struct transport_get *get)
{
	struct transport *transport = get->transport;
	CURLcode code;

	transport->fns->enter(transport->owner);
	code = curl_easy_pause(get->easy, CURLPAUSE_CONT);
	transport->fns->leave(transport->owner);
	/* libcurl 7.88 says here alone that our callback refused the bytes it had kept: a transfer
	 * whose body has all arrived would never hear of it again before its deadline. */
	if (code != CURLE_OK)
		transport->fns->end(explain(get, code), get->words, get->userdata);
	collect_ended(transport);
}

struct transport_get *transport_get_free(struct transport_get *get)
{
	if (!get)
		return NULL;
	if (get->is_started)
		curl_multi_remove_handle(get->transport->multi, get->easy);
	curl_easy_cleanup(get->easy);
	for (struct curl_slist *header = get->headers; header; header = header->next)
		explicit_bzero(header->data, strlen(header->data));
	curl_slist_free_all(get->headers);
	curl_slist_free_all(get->connect_to);
	free(get);
	return NULL;
}
