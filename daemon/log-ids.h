/*
 * What kind of thing a message tells, for good: a number in MESSAGE_ID= that stays when the words
 * change. One line each; consulcfgd-operations(7) and the journal's catalog have the same ones,
 * with what to do.
 */
#pragma once

#define LOG_READY "eb23676e4c1b4463ad0fd1342fb26547" /* the daemon serves */
#define LOG_STOPPING "95c83cea632642fba5663b238c55197e" /* it ends */
#define LOG_RELOADED "490999fe9fbb44bcb9d736ed761e0f16" /* it has new settings */
#define LOG_RELOAD_REFUSED "7099e59dc7c14a80a52a78426c13a1c8" /* it keeps the old ones */
#define LOG_SERVICE_LOADING "b2e048b496cb4a5a918c0925fd2ab013" /* no contents yet */
#define LOG_SERVICE_LIVE "246f433167ff45ffbb5bba2d979015ea" /* confirmed by the source */
#define LOG_SERVICE_STALE "fbaa413587bb43328e7fee0129f4fe12" /* from memory, the source is away */
#define LOG_SERVICE_BACKUP "06fa9ee04d75410c8a0fbe3dd34b8f2a" /* from the disk, unconfirmed */
#define LOG_SERVICE_HELD "1ff068fd12884f17a43926e0f22f8544" /* the newest looks like loss */
#define LOG_SERVICE_WITHHELD "d7bf6cef08af456eac0c1506f8d48952" /* it breaks the schema */
#define LOG_SERVICE_CHANGED "0b742455d233453fbde16fba00ed7109" /* clients get other contents */
#define LOG_SERVICE_LIMIT "779982206231490589ea122ef81b3660" /* last good, newest is too much */
#define LOG_SERVICE_ACCEPTED "0fe92b2654d24631914da658ea8271d9" /* what was held is taken */
#define LOG_SERVICE_FROZEN "944fcd9524d0400bb9688217b096a0ea" /* by an operator */
#define LOG_SERVICE_THAWED "52accf0bd035412a91d2a2af87b4e2e6" /* by an operator */
#define LOG_SERVICE_OVERRIDE "7b381b1730ed48c2bf3cd88e68774161" /* a key, by an operator */
#define LOG_SERVICE_OVERRIDE_ENDED "cb08a61145a14d42b8a611e18a1cc043" /* by an operator */
#define LOG_PIN_EXPIRED "52a86437728846de8495697d9376c398" /* of a freeze or override */
#define LOG_PIN_LOST "afea37fa982647f3b49f97e6abdaaaef" /* an order is not kept or read */
#define LOG_TREE_HELD "08636979c24343c68ccbe39381432a3f" /* a prefix's answer: like loss */
#define LOG_TREE_RELEASED "5b0e43545c754122acbbc2948f0b2573" /* it is no longer held */
#define LOG_SOURCE_DOWN "51a5a0e8d01b4af0988c6a2620483206" /* no answer, or no good one */
#define LOG_SOURCE_DENIED "512a96566a35467db64dda11ec4c134f" /* it refuses us */
#define LOG_SOURCE_UP "c0da4ee84d924bd58cfd6122e832c843" /* it answers again */
#define LOG_RESYNC_REPAIRED "311c3d3de3c74212b5b461f20cf10f3c" /* what the watch had missed */
#define LOG_TOKEN_LOST "acf268d23f354f1aa85551ed11308043" /* none in token_file */
#define LOG_TOKEN_FOUND "62113c0058124cb0bf4f68e0a90ffe0d" /* one again */
#define LOG_BACKUP_FAILED "43aebcab3e5d40bc8da505f18fda1567" /* cannot be written */
#define LOG_BACKUP_MENDED "a4dc94abef9342e5bb4e337ee0afeaf9" /* is written again */
#define LOG_BACKUP_DAMAGED "615922563abd4cc785052ebe5fea526a" /* set aside, or not read */
#define LOG_BACKUP_EXPIRED "7c39de6b8847423da2d081c5792a133f" /* of what nobody uses */
#define LOG_STATE_DIRECTORY "14463c0ad9984eefa6b4819222e041f9" /* of no use, or stuck */
#define LOG_ADMIN_FAILED "58d24f2f72b347b8a3895ed43a6cbd3a" /* its address cannot be had */
#define LOG_MEMORY_SHORT "833012457d864c5b8d9f9b92420dfa8f" /* snapshots are not shared */
#define LOG_MEMORY_ENOUGH "4376a3e1ae25436fb755a2bd17bfd2c9" /* they are again */
#define LOG_CLIENT_REFUSED "a6bbb98aff654e749b65ac254dd2bcd7" /* one broke the rules */
#define LOG_CLIENTS_WAIT "c1409a8d435e479da0a46ed8b0ac8e10" /* none can be accepted */
