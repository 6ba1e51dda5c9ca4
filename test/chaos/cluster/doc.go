// Package cluster plays stories of failure on what customers run: three NATS servers,
// each with its own disk, two of each service, a directory under a random load of
// changes, and a target that is slow and fails now and then. Every connection of a
// service, to a server or to the target, and every route between the servers leads
// through a proxy that can be cut in one direction or in both.
//
// Each story ends with the same questions, which no story answers for itself: is the
// target what the directory is, members included; is nothing there twice; was nothing
// removed that the directory still has; does `rollcall status` show nothing that waits;
// and all that within a minute. docs/testing.md says how to run them and what they found.
//
// The stories stand in files with the build tag `cluster`, because they take minutes:
//
//	make chaos                            random stories for an hour
//	make chaos CHAOS_DURATION=10m         for ten minutes
//	make chaos STORIES=selection          the ones that `make check` plays
//	make chaos STORIES=leaders SEED=7     one story again, with the same choices
package cluster
