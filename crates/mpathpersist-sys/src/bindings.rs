// Written by `cargo xtask bindgen` from the header of libmpathpersist: do not edit.

#[repr(C)]
#[derive(Default)]
pub struct __IncompleteArrayField<T>(::core::marker::PhantomData<T>, [T; 0]);
impl<T> __IncompleteArrayField<T> {
    #[inline]
    pub const fn new() -> Self {
        __IncompleteArrayField(::core::marker::PhantomData, [])
    }
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self as *const _ as *const T
    }
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self as *mut _ as *mut T
    }
    #[inline]
    pub unsafe fn as_slice(&self, len: usize) -> &[T] {
        unsafe { ::core::slice::from_raw_parts(self.as_ptr(), len) }
    }
    #[inline]
    pub unsafe fn as_mut_slice(&mut self, len: usize) -> &mut [T] {
        unsafe { ::core::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }
}
impl<T> ::core::fmt::Debug for __IncompleteArrayField<T> {
    fn fmt(&self, fmt: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        fmt.write_str("__IncompleteArrayField")
    }
}
pub const MPATH_MAX_PARAM_LEN: i32 = 8192;
pub const MPATH_MX_TIDS: i32 = 32;
pub const MPATH_MX_TID_LEN: i32 = 256;
pub const MPATH_PRIN_RKEY_SA: i32 = 0;
pub const MPATH_PRIN_RRES_SA: i32 = 1;
pub const MPATH_PRIN_RCAP_SA: i32 = 2;
pub const MPATH_PRIN_RFSTAT_SA: i32 = 3;
pub const MPATH_PROUT_REG_SA: i32 = 0;
pub const MPATH_PROUT_RES_SA: i32 = 1;
pub const MPATH_PROUT_REL_SA: i32 = 2;
pub const MPATH_PROUT_CLEAR_SA: i32 = 3;
pub const MPATH_PROUT_PREE_SA: i32 = 4;
pub const MPATH_PROUT_PREE_AB_SA: i32 = 5;
pub const MPATH_PROUT_REG_IGN_SA: i32 = 6;
pub const MPATH_PROUT_REG_MOV_SA: i32 = 7;
pub const MPATH_LU_SCOPE: i32 = 0;
pub const MPATH_PRTPE_WE: i32 = 1;
pub const MPATH_PRTPE_EA: i32 = 3;
pub const MPATH_PRTPE_WE_RO: i32 = 5;
pub const MPATH_PRTPE_EA_RO: i32 = 6;
pub const MPATH_PRTPE_WE_AR: i32 = 7;
pub const MPATH_PRTPE_EA_AR: i32 = 8;
pub const MPATH_PR_SKIP: i32 = -1;
pub const MPATH_PR_SUCCESS: i32 = 0;
pub const MPATH_PR_SYNTAX_ERROR: i32 = 1;
pub const MPATH_PR_SENSE_NOT_READY: i32 = 2;
pub const MPATH_PR_SENSE_MEDIUM_ERROR: i32 = 3;
pub const MPATH_PR_SENSE_HARDWARE_ERROR: i32 = 4;
pub const MPATH_PR_ILLEGAL_REQ: i32 = 5;
pub const MPATH_PR_SENSE_UNIT_ATTENTION: i32 = 6;
pub const MPATH_PR_SENSE_INVALID_OP: i32 = 7;
pub const MPATH_PR_SENSE_ABORTED_COMMAND: i32 = 8;
pub const MPATH_PR_NO_SENSE: i32 = 9;
pub const MPATH_PR_SENSE_MALFORMED: i32 = 10;
pub const MPATH_PR_RESERV_CONFLICT: i32 = 11;
pub const MPATH_PR_FILE_ERROR: i32 = 12;
pub const MPATH_PR_DMMP_ERROR: i32 = 13;
pub const MPATH_PR_THREAD_ERROR: i32 = 14;
pub const MPATH_PR_OTHER: i32 = 15;
pub const MPATH_F_APTPL_MASK: i32 = 1;
pub const MPATH_F_ALL_TG_PT_MASK: i32 = 4;
pub const MPATH_F_SPEC_I_PT_MASK: i32 = 8;
pub const MPATH_PR_TYPE_MASK: i32 = 15;
pub const MPATH_PR_SCOPE_MASK: i32 = 240;
pub const MPATH_PROTOCOL_ID_FC: i32 = 0;
pub const MPATH_PROTOCOL_ID_ISCSI: i32 = 5;
pub const MPATH_PROTOCOL_ID_SAS: i32 = 6;
pub const MPATH_WWUI_DEVICE_NAME: i32 = 0;
pub const MPATH_WWUI_PORT_IDENTIFIER: i32 = 64;
unsafe extern "C" {
    pub static mut mpath_mx_alloc_len: ::core::ffi::c_uint;
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct prin_readdescr {
    pub prgeneration: u32,
    pub additional_length: u32,
    pub key_list: [u8; 8192usize],
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct prin_resvdescr {
    pub prgeneration: u32,
    pub additional_length: u32,
    pub key: [u8; 8usize],
    pub _obsolete: u32,
    pub _reserved: u8,
    pub scope_type: u8,
    pub _obsolete1: u16,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct prin_capdescr {
    pub length: u16,
    pub flags: [u8; 2usize],
    pub pr_type_mask: u16,
    pub _reserved: u16,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct transportid {
    pub format_code: u8,
    pub protocol_id: u8,
    pub __bindgen_anon_1: transportid__bindgen_ty_1,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub union transportid__bindgen_ty_1 {
    pub n_port_name: [u8; 8usize],
    pub sas_address: [u8; 8usize],
    pub iscsi_name: [u8; 256usize],
}
#[repr(C)]
#[derive(Copy, Clone)]
pub struct prin_fulldescr {
    pub key: [u8; 8usize],
    pub flag: u8,
    pub scope_type: u8,
    pub rtpi: u16,
    pub trnptid: transportid,
}
#[repr(C)]
pub struct print_fulldescr_list {
    pub prgeneration: u32,
    pub number_of_descriptor: u32,
    pub private_buffer: [u8; 8192usize],
    pub descriptors: __IncompleteArrayField<*mut prin_fulldescr>,
}
#[repr(C)]
pub struct prin_resp {
    pub prin_descriptor: prin_resp__bindgen_ty_1,
}
#[repr(C)]
pub union prin_resp__bindgen_ty_1 {
    pub prin_readkeys: ::core::mem::ManuallyDrop<prin_readdescr>,
    pub prin_readresv: ::core::mem::ManuallyDrop<prin_resvdescr>,
    pub prin_readcap: ::core::mem::ManuallyDrop<prin_capdescr>,
    pub prin_readfd: ::core::mem::ManuallyDrop<print_fulldescr_list>,
}
#[repr(C)]
pub struct prout_param_descriptor {
    pub key: [u8; 8usize],
    pub sa_key: [u8; 8usize],
    pub _obsolete: u32,
    pub sa_flags: u8,
    pub _reserved: u8,
    pub _obsolete1: u16,
    pub private_buffer: [u8; 8192usize],
    pub num_transportid: u32,
    pub trnptid_list: __IncompleteArrayField<*mut transportid>,
}
unsafe extern "C" {
    pub fn libmpathpersist_init() -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn libmpathpersist_exit() -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn mpath_persistent_reserve_in(
        fd: ::core::ffi::c_int,
        rq_servact: ::core::ffi::c_int,
        resp: *mut prin_resp,
        noisy: ::core::ffi::c_int,
        verbose: ::core::ffi::c_int,
    ) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn mpath_persistent_reserve_out(
        fd: ::core::ffi::c_int,
        rq_servact: ::core::ffi::c_int,
        rq_scope: ::core::ffi::c_int,
        rq_type: ::core::ffi::c_uint,
        paramp: *mut prout_param_descriptor,
        noisy: ::core::ffi::c_int,
        verbose: ::core::ffi::c_int,
    ) -> ::core::ffi::c_int;
}
