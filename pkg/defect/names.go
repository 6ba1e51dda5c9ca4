package defect

// The defects.
const (
	// Duplicates: where links may be missing, resources are not found by the entry id that
	// they bear, so that a renamed entry gets a second one.
	Duplicates = "duplicates"
	// Deleted: nothing notices that a stream was made anew.
	Deleted = "deleted"
	// Restored: nothing notices that an older copy of the data was put back.
	Restored = "restored"
	// Late: nothing looks a second time at what an abandoned write was about.
	Late = "late"
	// Clock: a time that was stored while the clock of NATS was ahead is waited for.
	Clock = "clock"
)
