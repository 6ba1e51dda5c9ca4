// Package simulation plays the real user-sync in virtual time, on a NATS and a target in
// memory, with seeded delays, lost answers, crashes between any two steps, late and
// duplicate deliveries and late writes, and judges what became of it. See docs/testing.md.
package simulation
