// Package conformance holds stories that every directory server must fit, in every
// mode of detection. They run the real detector at a real server and look at what it
// publishes. There is nothing to import here.
//
// A history changes the directory at random while the detector works, while it is
// stopped and while it starts. What it has published then must equal what a second
// detector publishes that reads the same directory once, from nothing. A harm makes
// the account see less of the directory than there is, or removes more than the guard
// lets pass: what was published must stay.
//
// A history prints its seed; HISTORY_SEED plays that one again.
package conformance
