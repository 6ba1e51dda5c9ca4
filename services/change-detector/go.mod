module github.com/rollcall-scim/rollcall/services/change-detector

go 1.26.0

require (
	github.com/rollcall-scim/rollcall/pkg v0.0.0
	github.com/rollcall-scim/rollcall/proto v0.0.0
)

require (
	github.com/Azure/go-ntlmssp v0.1.1 // indirect
	github.com/go-asn1-ber/asn1-ber v1.5.8 // indirect
	github.com/go-ldap/ldap/v3 v3.4.15 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace (
	github.com/rollcall-scim/rollcall/pkg => ../../pkg
	github.com/rollcall-scim/rollcall/proto => ../../proto
)
