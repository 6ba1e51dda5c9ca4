package monitoring

import "errors"

var errRefused = errors.New("the query is refused")

const people = `
dn: uid=u1,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: u1
cn: One
sn: One

dn: uid=u2,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: u2
cn: Two
sn: Two

dn: cn=staff,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: staff
member: uid=u1,ou=people,dc=example,dc=com
member: uid=u2,ou=people,dc=example,dc=com
`

const configuration = `
nats: {data_dir: $DATA}
sources:
  corp:
    ldap: {urls: [$LDAP], bind_dn: "$READER", bind_password: "${file:$DIR/password}"}
    preset: openldap
    users: {base_dns: ["ou=people,dc=example,dc=com"]}
    groups: {base_dns: ["ou=groups,dc=example,dc=com"]}
connections:
  wiki:
    source: corp
    target: {url: "$SCIM", auth: {bearer: {token: "${file:$DIR/token}"}}}
    users: {attributes: {userName: user.uid, name.familyName: user.sn}}
    groups: {}
console: {listen: ""}
telemetry: {metrics_listen: "$METRICS", otlp_endpoint: "$OTLP", sample_ratio: 1, log: {level: error}}
`
