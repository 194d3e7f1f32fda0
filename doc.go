// Package bedrocktoken creates short-term Amazon Bedrock API keys from AWS
// credentials. Such a key is a bearer token, for clients that can send an
// Authorization header but cannot sign. This documentation calls it a token.
//
// [Provider.Transport] sends one with each request of an [http.Client], for as long
// as the program runs. [Provider.Token] returns one for other clients.
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
// AWS's SDKs sign their requests and need none. Agents, AgentCore, Data Automation
// and InvokeModelWithBidirectionalStream accept none.
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
// NewProvider fixes the region and the profile. A second later and for each
// retrieval, all else is read again, such as keys that were replaced. Requests for
// credentials time out after 10 seconds and are retried. AWS_BEARER_TOKEN_BEDROCK is
// not read.
//
// # Renewal
//
// A Provider holds the credentials that it retrieved last. With these, a call gets:
//
//	more than a minute left   a token at once
//	less                      a token when the retrieval under way ends, but no later than
//	                          a second after it began, or half way to the call's deadline
//	expired, or none          a token when the retrieval under way ends; until the next
//	                          one is due, the error of one that failed
//	bridged (see Trouble)     a token at once
//
// The first call after a retrieval is due starts it, in the background. The next one
// is due when the held credentials expire, or sooner:
//
//	it brought credentials                at the advisory window
//	it failed while calls get tokens      after 10 seconds, then 20, up to 5 minutes
//	it failed, and calls get its error    after 1 to 5 seconds, at random
//
// The advisory window depends on what the credentials have left when they come:
//
//	up to 20 minutes        the last 5 minutes, or half if less, or a minute
//	less than 90 minutes    the last 15 minutes
//	more                    the last hour
//
// Those without an expiry are retrieved again after 5 minutes; those of a
// StaticCredentialsProvider or a credential_process never are.
//
// One retrieval runs at a time, for a minute at most. Nothing runs in between: a
// Provider needs no closing. AWS has specified such rules for its SDKs ([Java],
// [Rust], [Python]); in November 2026 no released SDK had them on by default.
//
// # Trouble
//
// A source is in an outage if it does not answer, breaks off, answers with status
// 429, 5xx or a code that asks to try again, or gives expired credentials. The error
// is an [ErrOutage] then. After any other failure a person may have to act.
//
// From an outage until the next retrieval ends, the held credentials are bridged:
// they are used even if they have expired, and Bedrock decides. AWS calls this static
// stability. A token says that it expires two minutes after the next retrieval is
// due. If nobody calls until then, the next calls wait as in the last minute.
//
// A retrieval also fails if it brings others that expire sooner than the held ones,
// or those of the host (EC2 or the container) after others: the SDK falls back to the
// host when its files are missing. A restart uses them.
//
// If Bedrock answers 401 or 403 through [Provider.Transport], others are taken even
// if they expire sooner, and a retrieval is due, at least a minute after the last.
//
// This depends on where the credentials are from, by [aws.Credentials.Source]:
//
//	                                 bridged   due after 401 and 403
//	EC2, container, role, web
//	identity, IAM Identity Center,
//	aws login                        yes       yes
//	keys in environment or files     no        yes
//	credential_process, your own     no        no
//
// In aws login and in an [aws.CredentialsCache] the SDK keeps credentials until they
// expire. Calls wait then, and a cache keeps them even if Bedrock answers 403.
//
// [API keys]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
// [permissions]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-permissions.html
// [Java]: https://github.com/aws/aws-sdk-java-v2/pull/7263
// [Rust]: https://github.com/smithy-lang/smithy-rs/pull/4781
// [Python]: https://github.com/boto/botocore/pull/3773
package bedrocktoken
