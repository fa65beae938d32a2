//! Members of the organisation and of its workspaces.

use tollgate_domain::member::{Member, Role};
use tollgate_domain::workspace::Workspace;
use tollgate_store::{Act, Actor, MemberRefused, NewMember, Page, PageQuery, StoreError, WorkspaceMember};

use crate::{App, RandomError};

/// Characters of a public id behind `user_`.
const USER_ID_CHARACTERS: usize = 27;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Members in one request.
const USER_IDS_MAX: usize = 100;

/// Who is to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRequest {
    /// Where they are reached.
    pub email: String,
    /// Their first name.
    pub first_name: Option<String>,
    /// Their last name.
    pub last_name: Option<String>,
    /// What they may do.
    pub role: Role,
}

/// Why members were not changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Something that was given cannot be.
    #[error("{0}")]
    Invalid(&'static str),
    /// The rules are against it.
    #[error("the members cannot be changed so")]
    Refused(MemberRefused),
    /// No randomness.
    #[error("no id could be made")]
    Random(#[from] RandomError),
    /// The store failed.
    #[error("the members could not be stored")]
    Store(#[from] StoreError),
}

impl From<MemberRefused> for MemberError {
    fn from(refused: MemberRefused) -> Self {
        Self::Refused(refused)
    }
}

impl App {
    /// All members, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn members(&self, page: PageQuery) -> Result<Page<Member>, StoreError> {
        self.store().members(page).await
    }

    /// Adds a member.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn create_member(&self, request: MemberRequest, act: Act<Member>) -> Result<Member, MemberError> {
        let email = request.email.trim().to_owned();
        let named = email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
        if !named || email.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(MemberError::Invalid("`email` must be an address such as ann@example.org"));
        }
        let (first_name, last_name, role) = (request.first_name, request.last_name, request.role);
        let new = NewMember { user_id: self.new_user_id()?, email, first_name, last_name, role };
        let member = self.store().create_member(new, act).await??;
        tracing::info!(member.id = member.user_id, "member added");
        Ok(member)
    }

    /// Removes a member whose keys are all deleted.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn remove_member(&self, user_id: &str, by: &Actor) -> Result<(), MemberError> {
        self.store().remove_member(user_id, by).await??;
        tracing::info!(member.id = user_id, "member removed");
        Ok(())
    }

    /// The members of a workspace, longest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn workspace_members(
        &self,
        workspace: &Workspace,
        page: PageQuery,
    ) -> Result<Page<WorkspaceMember>, StoreError> {
        self.store().workspace_members(workspace.id, page).await
    }

    /// Adds members to a workspace: all of them, or none.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn add_workspace_members(
        &self,
        workspace: &Workspace,
        user_ids: Vec<String>,
        act: Act<Vec<WorkspaceMember>>,
    ) -> Result<Vec<WorkspaceMember>, MemberError> {
        check(&user_ids)?;
        Ok(self.store().add_workspace_members(workspace.id, user_ids, act).await??)
    }

    /// Removes members from a workspace: all of them, or none. How many were there.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn remove_workspace_members(
        &self,
        workspace: &Workspace,
        user_ids: Vec<String>,
        act: Act<usize>,
    ) -> Result<usize, MemberError> {
        check(&user_ids)?;
        if workspace.is_default() {
            return Err(MemberError::Invalid("everybody is a member of the default workspace"));
        }
        Ok(self.store().remove_workspace_members(workspace.id, user_ids, act).await??)
    }

    /// `user_` and 27 characters.
    fn new_user_id(&self) -> Result<String, RandomError> {
        let bytes = self.random.bytes()?;
        // A little more often the first letters than the last, which matters to nobody: 27 of them are more than enough.
        let characters = bytes.iter().take(USER_ID_CHARACTERS).filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        Ok(characters.map(|byte| char::from(*byte)).fold("user_".to_owned(), |mut id, character| {
            id.push(character);
            id
        }))
    }
}

fn check(user_ids: &[String]) -> Result<(), MemberError> {
    if (1..=USER_IDS_MAX).contains(&user_ids.len()) {
        Ok(())
    } else {
        Err(MemberError::Invalid("`user_ids` must be 1 to 100 ids"))
    }
}
