package connection

import (
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// defaultConfig is the file without any key.
func defaultConfig() *Config {
	return &Config{
		NATS:        NATS{DataDir: "./data", Replicas: 1},
		Sources:     map[string]*Source{},
		Connections: map[string]*Connection{},
		Workers:     Workers{Concurrency: 32},
		Console:     Console{Listen: "127.0.0.1:8080"},
		Telemetry: Telemetry{
			SampleRatio:   0.1,
			MetricsListen: "127.0.0.1:9090",
			Log:           Log{Level: "info", Format: "auto"},
		},
	}
}

func defaultSource(p preset) *Source {
	return &Source{
		LDAP: LDAP{
			ConnectTimeout: 10 * time.Second,
			ReadTimeout:    time.Minute,
			PageSize:       1000,
		},
		Preset:    p.name,
		ID:        p.id,
		Detection: Detection{Mode: ModeAuto, Interval: 5 * time.Second, SweepInterval: time.Hour},
		Users:     UserSource{Filter: p.userFilter, Nested: true, PrimaryGroup: p.primary, Enabled: p.enabled},
		Groups: GroupSource{
			Filter:       p.groupFilter,
			Members:      "member",
			MemberValues: MemberDN,
			Nested:       NestedFlatten,
		},
		Guard: defaultGuard(),
	}
}

func defaultGuard() Guard {
	return Guard{MaxRemovals: 500, MaxRemovalPercent: 5, Window: day}
}

// defaultConnection is a connection without any key but its target's profile; its
// mapping comes from its source's preset once that is known.
func defaultConnection(profile string) *Connection {
	ways, ok := scim.FindProfile(profile)
	if !ok {
		ways = scim.Generic() // the fault of another name is reported at its key
	}
	rate := scim.Rate{RequestsPerSecond: 10, Burst: 10}
	if ways.Rate != (scim.Rate{}) {
		rate = ways.Rate
	}
	return &Connection{
		Target: Target{
			Profile:     ways.Name,
			Overrides:   ways,
			Rate:        rate,
			Concurrency: 16,
		},
		Users: UserPolicy{
			Match:      []string{"userName"},
			Create:     true,
			Update:     true,
			Remove:     RemoveDisable,
			Disabled:   DisabledDisable,
			Reactivate: ReactivateAlways,
			Vanished:   VanishedCreate,
		},
		Guard: TargetGuard{MaxRemovals: 500, MaxRemovalPercent: 5, Window: day, FirstRun: FirstRunHold},
		Drift: Drift{Interval: day},
	}
}

func defaultGroupPolicy() *GroupPolicy {
	return &GroupPolicy{
		Create:   true,
		Update:   true,
		Remove:   RemoveDelete,
		Vanished: VanishedCreate,
		Name:     "group.cn",
		Match:    []string{"displayName"},
	}
}
