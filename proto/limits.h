/*
 * Every limit of the project, each with its reason. Limits that an administrator may move have
 * their default here and their key in consulcfgd.conf(5).
 */
#pragma once

#define LIMIT_SERVICE_NAME 64 /* a name is a directory entry, a metric label and a table cell */
#define LIMIT_KEY 4096 /* Consul has none; 300 kB keys pass through txn; PATH_MAX is plenty */
#define LIMIT_LAYERS 16 /* a layer is one byte in the image; nobody reads a 16-deep merge */
#define LIMIT_JSON_DEPTH 3 /* Consul's answer is [ { "Key": … } ]: array, object, scalar */
#define LIMIT_ENTRIES 4000000 /* entries of one answer: 4 bytes of JSON each would fill memory */

/* Configurable, sizes in bytes. */
#define DEFAULT_MAX_VALUE (16u << 20) /* Consul's own limit is 512 KiB unless raised */
#define DEFAULT_MAX_SERVICE                                                                        \
	(64u << 20) /* image bytes; a tree above this is a mistake, not a config */
#define DEFAULT_MAX_SERVICES 20000 /* one host runs hundreds; a loop that opens names is a bug */

/* Schemas, which may come with the configuration. */
#define LIMIT_SCHEMA (256 << 10) /* bytes: a line for each of a thousand keys, with comments */
#define LIMIT_SCHEMA_LINES 1000 /* each key is held against each line until one matches */
#define LIMIT_SCHEMA_SLICE 4 /* lines read at a time: a pattern takes up to 0.2 ms */
#define LIMIT_SCHEMA_GLOB 256 /* bytes, with a *: it is tried at each byte of a key, 2 ms */
#define LIMIT_SCHEMA_PATTERN 256 /* bytes of a regular expression */
#define LIMIT_SCHEMA_STATES 512 /* of its automaton; with a text of the longest: 5 ms of steps */
#define LIMIT_SCHEMA_PIECE (256u << 10) /* of a string looked at for UTF-8: 0.4 ms, by 20 ms */
#define LIMIT_SCHEMA_TEXT 4096 /* bytes that a pattern is held against */

/* The socket. */
#define LIMIT_FRAME (64u << 10) /* checked before a byte of the payload is stored */
#define LIMIT_REPLY (1u << 30) /* a client takes no larger reply: it holds one value at least */
#define LIMIT_OUTPUT (1u << 20) /* unsent reply bytes of one client before its requests wait */
#define LIMIT_READ_BATCH (64u << 10) /* request bytes of one client handled in one loop turn */
#define LIMIT_PENDING_REQUESTS 1024 /* requests of one client that wait for data (OPEN, WATCH) */
#define LIMIT_SESSION_SERVICES 256 /* services that one connection may keep alive */
#define LIMIT_ABSENT_PER_USER 1024 /* opened services without a key, per user: names are free */
#define LIMIT_LOADING_PER_USER 4096 /* opened ones that may yet have keys: a host that starts */
#define LIMIT_CLIENTS_PER_USER 4096 /* default of max_clients_per_user; root is exempt */
#define LIMIT_PASSED_SOCKETS 256 /* of the service manager: an unbounded list is a mistake */
#define LIMIT_BACKLOG 1024 /* connections the kernel queues while the loop is busy */
#define LIMIT_HELLO_USEC 5000000 /* a client that says nothing holds its place this long */
#define LIMIT_REQUEST_USEC 10000000 /* from the first byte of a frame to its last */
#define LIMIT_STALL_USEC 60000000 /* a client that takes no byte of its replies ties up memory */
#define LIMIT_PIN_USEC 60000000 /* a list is read to its end in this time; it ties memory up */
#define LIMIT_BUFFERED_PER_USER (64u << 20) /* half requests, unsent replies; root is exempt */
#define LIMIT_INLINE_VALUE (16u << 10) /* larger values are sent from the image, not copied */
#define LIMIT_LIST_PAGE (64u << 10) /* entries of a LIST reply, unless a single one is larger */
#define LIMIT_MGET_REPLY (1u << 20) /* 64 KiB of keys could name one large value 20 000 times */
#define LIMIT_EXPLAIN_VALUE (16u << 10) /* of each layer's value: it is for people to look at */
#define LIMIT_STATUS_PAGE (48u << 10) /* JSON of a STATUS reply; one object more fits a frame */
#define LIMIT_STATUS_OVERRIDES (512u << 10) /* JSON of those of a service: all of usual length */
#define LIMIT_TURN_COST 4096 /* of one client in one loop turn; a lookup is 1: about 1 ms */
#define LIMIT_SHARE_COST 64 /* of one user while there are others: they wait it, about 10 us */
#define LIMIT_SHARE_BYTES (16u << 10) /* of one page, one send then: as long as those lookups */
#define LIMIT_CROWDED_TURNS                                                                        \
	1024 /* 15 ms of a user beyond its share: a host that starts, a fleet                      \
	      */
#define LIMIT_CROWDED_USEC                                                                         \
	200 /* then between shares: who never sleeps loses the processor for milliseconds at a     \
	     * time, to others' cost. 320 000 lookups a second are left */
#define LIMIT_CROWDED_SPAN_USEC 10000 /* since others were served: there are none, no pause */
#define LIMIT_DECISION_USEC 1000000 /* may this client read that service: asked anew after this */
#define LIMIT_DESCRIPTORS                                                                          \
	2 /* sent and not yet taken, per connection: the kernel counts them                        \
	   * against the daemon's RLIMIT_NOFILE, for all clients together */
#define LIMIT_WAKE_BATCH 256 /* waiting clients answered in one loop turn */
#define LIMIT_ACCEPT_BATCH 64 /* connections taken in one loop turn */
#define LIMIT_ACCEPT_PAUSE_USEC 250000 /* when descriptors or memory are used up */
#define LIMIT_GUARD_THREADS                                                                        \
	8 /* users whose sockets are slow to close; the rest waits: tasks are few */
#define LIMIT_LINGER_USEC                                                                          \
	200 /* of what clients sent; a flood of it is closed as fast as accepted */
#define LIMIT_COMPLAINT_USEC 1000000 /* one log line about clients in this time: disks fill */

/* The admin port. */
#define LIMIT_WEB_VISITORS 64 /* connections: a few scrapers and browsers; the rest queues */
#define LIMIT_WEB_VISIT_USEC 60000000 /* of one connection: a page of 10 000 services takes 1 s */
#define LIMIT_WEB_IDLE_USEC 10000000 /* neither reads nor writes */
#define LIMIT_WEB_HEADERS (16u << 10) /* browsers send 2 kB; the request line counts */
#define LIMIT_WEB_PIECE (32u << 10) /* of a long reply: what a visitor who never reads costs */
#define LIMIT_SERVICE_METRICS 200 /* default of per_service_metrics: each is a series for years */

/* Consul. */
#define LIMIT_CONNECTIONS 16 /* default of max_connections; an agent grants 200 to a host */
#define LIMIT_CONNECTIONS_MIN 4 /* two are kept for resync and first reads, one for a watch */
#define LIMIT_CONNECTIONS_MAX 200 /* the agent's whole grant to a host */
#define LIMIT_WAIT_MIN_USEC 1000000 /* shorter waits are polling */
#define LIMIT_WAIT_MAX_USEC 600000000 /* Consul cuts longer ones to max_query_time, 10 minutes */
#define LIMIT_RESYNC_MIN_USEC 1000000 /* a full read per second is what a test asks for */
#define LIMIT_ERROR_BODY 4096 /* of a failed answer, for its error class; never shown whole */
#define LIMIT_RETRY_FIRST_USEC 100000 /* first retry after an error */
#define LIMIT_RETRY_EARLY_USEC 1000000 /* at most this far apart in the first minute */
#define LIMIT_RETRY_EARLY_SPAN_USEC 60000000 /* an agent that restarts is back by then */
#define LIMIT_RETRY_MAX_USEC 30000000 /* cap of the exponential part */
#define LIMIT_SMALL_TREE                                                                           \
	(16u << 10) /* Consul resends the body at each time-out: above, wait grows */
#define LIMIT_GATHER_USEC 1000000 /* what hits many prefixes hits them within this */
#define LIMIT_NEWS_USEC 60000000 /* what is new in a trouble is logged this far apart */
#define LIMIT_POLL_HOLD_USEC 7000000 /* a server waits this long for a leader: rpc_hold_timeout */
#define LIMIT_POLL_SLACK_USEC 6000000 /* of a deadline: network, a busy agent */
#define LIMIT_BODY_USEC 60000000 /* from the head of an answer to its end: no drip-feed */
#define LIMIT_BODY_FACTOR 6 /* bytes of JSON to a byte of records: 5 where values are numbers */
#define LIMIT_BODY_SLACK (1u << 20) /* what many small entries take beyond that */
#define LIMIT_JSON_SLACK (4u << 20) /* a token: a key of 300 kB (txn) in \u00XX, and spaces */
#define LIMIT_PACE_BURST 2 /* wake-ups without change that cost nothing */
#define LIMIT_STORM_BURST 8 /* changes that came at once before polls wait for each other */
#define LIMIT_STORM_USEC 100000 /* and at most this: a tenth of what a last value may take */
#define LIMIT_READERS_USEC 500 /* between a change and the next poll: readers take it meanwhile */
#define LIMIT_PACE_FIRST_USEC 1000000 /* then one in this time, */
#define LIMIT_PACE_MAX_USEC 15000000 /* growing to this: an absent prefix wakes on every write */
#define LIMIT_BELLS_MIN 2 /* polls for absent trees, when the others can have one each */
#define LIMIT_PLAN_USEC                                                                            \
	50000 /* after the last of many new trees, or the last change of doorbells */
#define LIMIT_KNOCK_USEC                                                                           \
	1000000 /* between looks at a doorbell's prefix while no poll is free for it */
#define LIMIT_BELL_PROBES                                                                          \
	4 /* of one doorbell at a time: two processors' worth, and some on the way */
#define LIMIT_BELL_SEARCHES                                                                        \
	2 /* at a time: what waits its turn finds the writes of meanwhile, too */
#define LIMIT_BELL_HURRY_USEC 100000 /* a ring that came in this time is one of a burst */
#define LIMIT_BELL_REST_FIRST_USEC 10000 /* between the rings of one, growing to */
#define LIMIT_BELL_REST_USEC 250000 /* in a storm: its last value is seen within 1 s */
#define LIMIT_LOSS_KEYS 10 /* of fewer keys, more than half may well go at once */
#define LIMIT_SAMPLES 8 /* missing keys that are read singly: deleted, or hidden from us */
#define LIMIT_RESYNC_GRACE_USEC 1000000 /* for the watch to bring what the resync saw first */
#define LIMIT_HOLD_MIN_USEC 1000000 /* of hold=: less is no time to look */
#define LIMIT_LEDGER                                                                               \
	256 /* polls under way, or left behind: more connections than an agent grants */
#define LIMIT_LEDGER_SLACK_USEC 2000000 /* a busy agent ends a poll a little late */
#define LIMIT_OVERDUE_USEC 30000000 /* beyond any stall that ends by itself: no watchdog then */
#define LIMIT_IDLE_MIN_USEC 1000000 /* of an exit: a start takes about a tenth of that */
#define LIMIT_TOKEN 4096 /* a Consul token is a UUID of 36 bytes */

/* HTTP. */
#define LIMIT_HTTP_HEAD (64u << 10) /* of an answer; Consul sends 300 bytes */
#define LIMIT_HTTP_UNWANTED (64u << 10) /* of a body nobody wants: read to keep the connection */
#define LIMIT_HTTP_TURN (256u << 10) /* decoded in one turn of the loop: under 1 ms of parsing */
#define LIMIT_HTTP_STREAMS 100 /* requests on one HTTP/2 connection; Consul grants 250 */
#define LIMIT_HTTP_CONNECT_USEC 5000000 /* another address may answer */
#define LIMIT_HTTP_DNS_USEC 5000000 /* a name is looked up again after this: agents move */

/* Memory. */
#define LIMIT_MEMORY_FACTOR                                                                        \
	6 /* a snapshot; then the next answer and its entries, twice while they grow, an image */
#define LIMIT_MEMORY_RESERVE (8u << 20) /* clients' requests, what malloc does not give back */
#define LIMIT_MEMORY_AGE_USEC 100000 /* of what the kernel said of it: a look takes 0.1 ms */
#define LIMIT_MEMORY_AGE_MAX_USEC 5000000 /* the same, far from the limit */

/* The loop. */
#define LIMIT_TURN_USEC 2000 /* of due timers, then the sockets have their turn */
#define LIMIT_SLICE_ENTRIES 4096 /* entries handled per loop turn: about 1 ms, budget 10 ms */
#define LIMIT_COALESCE_USEC 20000 /* a second publication of one service waits this long */
#define LIMIT_PUBLISH_RETRY_USEC 1000000 /* without memory or descriptors: it may pass soon */
#define LIMIT_CONFIRM_USEC 10000000 /* nobody uses it, but its source answers soon */
#define LIMIT_SETTLE_SERVICES 256 /* loaded: what that took on the heap is worth a look, */
#define LIMIT_SETTLE_USEC 10000000 /* so long after the last one, when its backup is written */

/* Messages. */
#define LIMIT_JOURNAL_USEC 20000 /* a journal that hangs; the line goes to standard error then */
#define LIMIT_JOURNAL_REST_USEC 10000000 /* then none waits: one that reads slowly hangs often */
#define LIMIT_STATE_LINES 100 /* of services in a burst: an outage is of all of them at once */
#define LIMIT_STATE_LINE_USEC                                                                      \
	1000000 /* then one in this time; clients can make services change                         \
		 */

/* What has changed lately, for people. */
#define LIMIT_CHANGES 100 /* of all services together: a page to look through */
#define LIMIT_CHANGE_KEYS 16 /* named of one change; the others are counted */
#define LIMIT_CHANGE_TEXT 1024 /* bytes of these names: a key may have 4096 */
#define LIMIT_CHANGE_BYTES (64u << 20) /* of images that wait to be compared, beyond the first */

/* Files. */
#define LIMIT_CONFIG_FILE (1u << 20) /* a configuration file beyond this is not one */
#define LIMIT_CONFIG_LINE 199 /* the INI reader cuts longer lines: they are refused */
#define LIMIT_CONFIG_SECTION 49 /* likewise section names */
#define LIMIT_CONFIG_WORDS 1024 /* of one list; a service name each would be 64 kB of preload */
#define LIMIT_CONFIG_RULES 1024 /* [service] sections: each is tried for each new service */
#define LIMIT_CONFIG_SOCKETS 128 /* [socket NAME]: one for each container of a host */
#define LIMIT_CONFIG_LABELS 256 /* [labels] of one host */
#define LIMIT_DIRECTORY_DEPTH 32 /* of the directory source: a deeper tree is a loop */

/* The directory source. */
#define LIMIT_DIRECTORY_COUNT 65536 /* directories of one tree; links can multiply them */
#define LIMIT_DIRECTORY_SCANS 16 /* trees read at a time: each holds two descriptors */
#define LIMIT_DIRECTORY_RETRIES 3 /* scans that may fail before it is an error */
#define LIMIT_DIRECTORY_SLICE_USEC 5000 /* of a scan, when its files are slow to read */
#define LIMIT_DIRECTORY_QUIET_USEC 3000 /* after a notice: a burst of changes is one answer */
#define LIMIT_DIRECTORY_PROOF_USEC 2000 /* the kernel tells of a change after it shows it */
#define LIMIT_DIRECTORY_EMPTIED_USEC 100000 /* likewise, of a file cut to be rewritten */
#define LIMIT_DIRECTORY_BURST_USEC 50000 /* a burst that does not end is looked at all the same */
#define LIMIT_DIRECTORY_WRITING_USEC 2000000 /* without a write an open file counts as written */
#define LIMIT_DIRECTORY_HOLD_USEC 10000000 /* files that never rest are taken as they are */
#define LIMIT_DIRECTORY_FRESH_USEC 20000 /* a file that was written before it was watched rests */
#define LIMIT_DIRECTORY_EMPTY_USEC 500000 /* the same, empty: its writer has probably not begun */
#define LIMIT_DIRECTORY_WRITERS 256 /* files remembered as being written */
#define LIMIT_DIRECTORY_AGAIN_USEC 20000 /* between the scans of LIMIT_DIRECTORY_RETRIES */
#define LIMIT_DIRECTORY_POLL_USEC 1000000 /* where inotify has no watches left */

/* Backups. */
#define LIMIT_BACKUP_NAMES 8192 /* of a backup: 16 prefixes of a configuration line each, twice */
#define LIMIT_BACKUP_WRITE_USEC 1000000 /* one write of one service in this time: disks wear */
#define LIMIT_BACKUP_RETRY_MAX_USEC 30000000 /* a disk that failed is tried again this often */
#define LIMIT_BACKUP_BATCH 256 /* open files, written with two syncs of the file system */
#define LIMIT_BACKUP_BATCH_MIN 16 /* below it one by one: others' writes are not waited for */
#define LIMIT_BACKUP_STUCK_USEC 10000000 /* a stop waits this long for a disk that is stuck, */
#define LIMIT_BACKUP_STOP_USEC 60000000 /* and for one that is slow: TimeoutStopSec= is 90 s */
#define LIMIT_SNAPSHOT_FREE (4u << 20) /* freed on a thread of its own: 1 ms */
#define LIMIT_BACKUP_SLICE                                                                         \
	(256u << 10) /* read, hashed and copied in one go: what fits the cache next to a core */
#define LIMIT_AWAITED_USEC 60000000 /* clients of the daemon before come back in this time */
#define LIMIT_BACKUP_LIST (128u << 20) /* names of services in use; a million of the longest */
#define DEFAULT_KEEP 8 /* generations of a service that can be gone back to */
#define DEFAULT_EXPIRE_USEC (UINT64_C(30) * 24 * 3600 * 1000000) /* a month of a service unused */

/* Pins. */
#define LIMIT_PINS 1024 /* overrides of one service: more belong into the source */
#define LIMIT_PIN_BY 32 /* "uid 4294967295" */
#define LIMIT_PIN_REASON 200 /* one line of a status */
#define LIMIT_ORDER_USEC 20000000 /* an operator waits this long for a slow disk */
#define LIMIT_PIN_LOOK_USEC 60000000 /* ends are by the wall clock, which may be set */
#define LIMIT_EXPIRE_LOOK_USEC                                                                     \
	UINT64_C(3600000000) /* backups are looked through for old ones this often */

/* The client library, which runs inside other people's programs. */
#define DEFAULT_OPEN_MS 5000 /* of an open: a daemon that starts has data by then */
#define LIMIT_READ_USEC 20000 /* a read waits no longer for a daemon in whatever state */
#define LIMIT_TAKE_USEC 1000 /* of taking what is there: a daemon could send for ever */
#define LIMIT_DISPATCH_REPLIES 64 /* taken by one dispatch, likewise */
#define LIMIT_RECEIVED_DESCRIPTORS 4 /* twice what the daemon may have under way */
#define LIMIT_OLDER_GENFILES 16 /* a daemon with a new one each time must not fill our memory */
#define LIMIT_BACKOFF_FIRST_USEC 100000 /* after a failure: a daemon restarts in less */
#define LIMIT_BACKOFF_MAX_USEC 1000000 /* after many: so late may it be noticed that it is back */
#define LIMIT_LIVE_LOOK_USEC 50000 /* between looks whether the data is live yet */
#define LIMIT_IDENTITY_USEC                                                                        \
	500000 /* between looks whether a quiet socket is still ours: the program may have         \
		* closed it, and a quiet socket in its place looks like a quiet daemon */
#define LIMIT_HAZARD_TURNS                                                                         \
	100 /* yields until a reader has left: a read takes under a microsecond, unless its        \
	     * thread is interrupted. That one is not waited for, which on a busy machine takes    \
	     * longer than a read may; nor do threads of a parent ever leave */

/* The tools. */
#define DEFAULT_QUERY_USEC 5000000 /* of -t: for the daemon and the first data */
#define DEFAULT_SPLAY_USEC 30000000 /* of exec: a fleet does not restart at once */
#define DEFAULT_STOP_USEC 10000000 /* from SIGTERM to SIGKILL, as container engines have it */
#define DEFAULT_INTERVAL_USEC 5000000 /* between restarts: a flapping key is no crash loop */
#define LIMIT_CONNECT_LOOK_MS 50 /* between looks for a daemon that is not there yet */
#define LIMIT_ANSWER_USEC 1000000 /* for the way of an answer, also with -t 0 */
#define LIMIT_NEXT_ANSWER_USEC 5000000 /* the daemon has data: it only needs to send it */
#define LIMIT_OUTCOME_LOOK_MS 10 /* between looks what became of an override */
#define LIMIT_ROUNDS 100 /* of a service that changes while it is read, each time */
#define LIMIT_STATUS_LINES 20 /* of the overrides of a service, for people; the rest: --json */
#define LIMIT_STATUS_DEPTH 16 /* of its JSON, which has 5 */
#define LIMIT_QUIET_MS 100 /* writers that set keys one by one are done between two of them */
#define LIMIT_BURST_USEC 2000000 /* what never rests is acted upon all the same */
#define LIMIT_KILLED_LOOK_USEC 100000 /* between looks at what was killed: it may take its time */
#define LIMIT_HOOK_GRACE_USEC 10000000 /* of a command, once who runs it was told to end */
#define LIMIT_FOLDER_DEPTH 256 /* directories in each other: each is open while it is written */
#define LIMIT_PRIVATE_STOP_MS 5000 /* it has nothing to write: what is not ended by then hangs */
#define LIMIT_WORD (128u << 10) /* MAX_ARG_STRLEN: the kernel's, of a variable and its NUL */
#define LIMIT_CHANGED (100u << 10) /* of CONSULCFG_CHANGED, which is one; more is on stdin */
#define LIMIT_FRESH_TRIES 8 /* names for a new file: another process took the last for left */
#define LIMIT_TEMPLATE (1u << 20) /* a template beyond this is not one */
#define LIMIT_RENDER_AGAIN_MS 30000 /* a file that failed: space and rights come back */
#define LIMIT_FOLLOW_MS 1000 /* between looks of a status that is followed */
