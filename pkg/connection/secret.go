package connection

// Secret is a value that comes only from a file or the environment and is never
// printed.
type Secret struct{ reference string }
