package provisioningv1

// LaneKey is the key of one rate of a connection's target:
// <connection>.lane.<name>.
func LaneKey(connection, name string) string { return connection + ".lane." + name }

// ClosureKey is the key that says until when a connection's target does not want to
// be called: <connection>.closed.
func ClosureKey(connection string) string { return connection + ".closed" }

// ReplicaKey is the key by which a replica says that it calls a connection's target:
// <connection>.replica.<owner>.
func ReplicaKey(connection, owner string) string { return connection + ".replica." + owner }

// ReplicaFilter matches all replicas that call a connection's target.
func ReplicaFilter(connection string) string { return connection + ".replica.*" }
