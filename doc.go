// Package bedrocktoken creates short-term Amazon Bedrock API keys from AWS
// credentials. Such a key is a bearer token, for clients that can send an
// Authorization header but cannot sign. This documentation calls it a token.
//
// [Provider.Transport] sends a token with each request of an [http.Client], for as
// long as the program runs. [Provider.Token] returns one for other clients.
// [ProvideToken] is for programs that end before their token does.
//
// # Tokens
//
// A token is a presigned request for bedrock:CallWithBearerToken. Signing is local:
// only retrieving credentials uses the network. A token is valid in one region, for
// at most 12 hours, and no longer than the credentials that signed it, often an hour.
// It cannot be renewed or individually revoked.
//
// It carries the permissions of the identity that signed it, which needs
// bedrock:CallWithBearerToken (for bedrock-mantle,
// bedrock-mantle:CallWithBearerToken) besides the actions it calls: see AWS on
// [API keys] and [permissions].
//
// AWS's SDKs sign their requests and need no token. Agents, AgentCore, Data
// Automation and InvokeModelWithBidirectionalStream accept none.
//
// # Region and credentials
//
// The region is that of [WithRegion] or else the first of AWS_REGION,
// AWS_DEFAULT_REGION and the profile's region. The credentials are those of
// [WithCredentialsProvider] or else the first that the SDK's default chain finds:
//
//  1. Unless [WithProfile] is given, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with
//     AWS_CREDENTIAL_EXPIRATION, or web identity in the environment, as on EKS.
//  2. The profile: keys, a role (for an hour, or its duration_seconds), IAM Identity
//     Center, aws login, or a credential_process.
//  3. The role of the container, then that of the EC2 instance.
//
// NewProvider fixes the region and the profile. All else is read again for each
// retrieval that begins more than a second later, so that replaced keys are picked
// up. Requests for credentials time out after 10 seconds and are retried.
// AWS_BEARER_TOKEN_BEDROCK is not read.
//
// # Renewal
//
// A Provider holds the credentials that it retrieved last:
//
//	held credentials          a call
//	more than a minute left   is served at once
//	in their last minute      waits for the retrieval under way, until a second after
//	                          it began or half of the time to its deadline has
//	                          passed, and is served
//	none, or expired          waits for the retrieval under way or its context; after
//	                          one that failed, gets its error until the next is due
//	bridged (see Trouble)     is served at once, expired or not
//
// The first call after a retrieval is due starts it, in the background:
//
//	the last one brought         the next one is due
//	credentials                  when their advisory window begins
//	none; calls are served       after 10 seconds, doubled each time up to 5 minutes
//	none; nothing to serve       after 1 to 5 seconds, at random
//
// It is also due when the held credentials expire. The advisory window is the last 5
// minutes of credentials that come with up to 20 minutes left (at most half of that,
// at least one), the last 15 if it is less than 90, and else the last hour. Those
// without an expiry are retrieved again after 5 minutes, but not from a
// StaticCredentialsProvider or a credential_process, which may prompt.
//
// One retrieval runs at a time, for a minute at most. Nothing runs in between: a
// Provider needs no closing.
//
// AWS has specified such rules for its SDKs ([Java], [Rust], [Python]). In November
// 2026 no released SDK had them on by default.
//
// # Trouble
//
// A retrieval fails by an outage if the source did not answer, broke off, answered
// with status 429, 5xx or a code that asks to try again, or gave expired credentials:
// its error is an [ErrOutage]. Any other failure is a refusal, which a person may
// have to mend.
//
// In an outage the held credentials are bridged: they are served even after they
// expire, and Bedrock decides. AWS calls this static stability. A token then reports
// an expiry two minutes after the next retrieval is due. If nobody calls until then,
// the next calls wait as in the last minute. A refusal ends the bridge.
//
// Credentials that expire sooner than the held ones are not taken. Nor are those of
// the host (EC2 or the container) in place of others, before a restart: the SDK
// falls back to them when its files are missing.
//
// If Bedrock answers 401 or 403 through [Provider.Transport], a retrieval is due a
// minute after the last one, and takes others even if they expire sooner.
//
// What holds depends on [aws.Credentials.Source]:
//
//	                                 renewed before   bridged   due after
//	                                 they expire                401 and 403
//	EC2, container, role, web
//	identity, IAM Identity Center    yes              yes       yes
//	aws login                        no               yes       yes
//	keys in environment or files     if they do       no        yes
//	credential_process, your own     yes              no        no
//
// An [aws.CredentialsCache], like aws login, keeps credentials until they expire, and
// calls wait then. It does so even if Bedrock refuses them.
//
// [API keys]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
// [permissions]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-permissions.html
// [Java]: https://github.com/aws/aws-sdk-java-v2/pull/7263
// [Rust]: https://github.com/smithy-lang/smithy-rs/pull/4781
// [Python]: https://github.com/boto/botocore/pull/3773
package bedrocktoken
