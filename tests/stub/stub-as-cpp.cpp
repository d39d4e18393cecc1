// The stub in a C++ program.
#include "client/stub/consulcfg-stub.c"
