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
// A token is a presigned request for bedrock:CallWithBearerToken. It is signed
// locally: only retrieving credentials uses the network. It is valid in one
// region, for at most 12 hours, and no longer than the credentials that signed it,
// which often last an hour. It cannot be renewed or individually revoked.
//
// It carries the permissions of the identity that signed it, which needs
// bedrock:CallWithBearerToken (for bedrock-mantle,
// bedrock-mantle:CallWithBearerToken) in addition to the actions it calls. See AWS's
// documentation of [API keys] and their [permissions].
//
// The AWS SDK's own clients sign their requests and need no token. Agents,
// AgentCore, Data Automation and InvokeModelWithBidirectionalStream accept none.
//
// # Region and credentials
//
// The region is that of [WithRegion] or else the first of AWS_REGION,
// AWS_DEFAULT_REGION and the profile's region. The credentials are those of
// [WithCredentialsProvider] or else the first that the SDK's default chain finds:
//
//  1. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, unless [WithProfile] is given.
//     AWS_CREDENTIAL_EXPIRATION, if set, is their expiry.
//  2. Web identity in the environment, as on EKS, unless WithProfile is given.
//  3. The profile: keys, a role, IAM Identity Center, aws login, or a
//     credential_process. The session of a role lasts an hour, or the profile's
//     duration_seconds.
//  4. The role of the container, then that of the EC2 instance.
//
// NewProvider fixes the region and the profile. All else is read again for each
// retrieval that begins more than a second later, so that keys replaced in the
// shared files are picked up. HTTP requests for credentials time out after 10
// seconds and are retried. AWS_BEARER_TOKEN_BEDROCK is not read.
//
// # Renewal
//
// A Provider holds the credentials that it retrieved last:
//
//	held credentials          a call
//	more than a minute left   is served at once
//	in their last minute      waits for the retrieval under way, until a second after
//	                          it began, and is served
//	bridged (see Trouble)     is served at once, even if they have expired
//	none, or expired          waits for the retrieval under way; after one that failed
//	                          it gets the same error, until the next one is due
//
// A call whose context is done returns at once. In the last minute it waits for at
// most half of the time to its deadline.
//
// The first call after a retrieval is due starts it, in the background:
//
//	the last one brought                   the next one is due
//	credentials                            when their advisory window begins
//	none, but calls are served             after 10 seconds, doubled each time up to 5
//	                                       minutes
//	none, and there is nothing to serve    after 1 to 5 seconds, at random
//
// and in each case when the held credentials expire. The advisory window is the last
// 5 minutes of credentials that come with up to 20 minutes left (at most half of
// that, at least a minute), the last 15 if it is less than 90, and else the last
// hour. Without an expiry, the next retrieval is due after 5 minutes, or never for a
// StaticCredentialsProvider and for a credential_process, which may prompt.
//
// One retrieval runs at a time, for a minute at most. Between retrievals nothing
// runs: a Provider needs no closing.
//
// AWS has specified such rules for its SDKs ([Java], [Rust], [Python]). In November
// 2026 no released SDK had them on by default.
//
// # Trouble
//
// A retrieval fails by an outage if the source did not answer, broke off, answered
// with status 429 or 5xx or a code that asks to try again, or gave credentials that
// had expired: its error is an [ErrOutage]. Otherwise it fails by a refusal, which a
// person may have to mend.
//
// In an outage the held credentials are bridged. They are served after they have
// expired, too, and Bedrock decides: AWS calls this static stability. A token then
// reports an expiry two minutes after the next retrieval is due. If nobody calls
// until then, the next calls wait as in the last minute. A refusal ends it.
//
// Credentials that expire sooner than the held ones are not taken. Nor are those of
// the container or the instance in place of others: without its files the SDK falls
// back to them. They need a restart.
//
// If Bedrock answers 401 or 403 to a request of [Provider.Transport], a retrieval is
// due a minute after the last one ended, and its credentials are taken even if they
// expire sooner.
//
// What holds for which source, by [aws.Credentials.Source]:
//
//	                                   new ones before   bridged   due after
//	                                   the old expire              401 or 403
//	EC2, container, role by STS,
//	web identity, IAM Identity Center  yes               yes       yes
//	aws login                          no                yes       yes
//	keys in environment or files       5-minutely        no        yes
//	credential_process, your own       yes               no        no
//
// An [aws.CredentialsCache], and aws login, keep credentials until they expire, so
// that calls then wait. A cache does so even if Bedrock refuses them.
//
// [API keys]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
// [permissions]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-permissions.html
// [Java]: https://github.com/aws/aws-sdk-java-v2/pull/7263
// [Rust]: https://github.com/smithy-lang/smithy-rs/pull/4781
// [Python]: https://github.com/boto/botocore/pull/3773
package bedrocktoken
